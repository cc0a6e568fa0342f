"""A digest of a split's contents, kept in the data set's metadata.json: {split: 16 hex digits}.

The same examples give the same digest in any order and any build. The files do not: TFDS writes
the columns of a record in a different order in every process.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

_MODULUS = 1 << 63  # sums travel through Beam and JSON as int64


def digest(key: str, example: dict[str, Any]) -> int:
  """The digest of one example as a builder yields it, before TFDS encodes it."""
  return int.from_bytes(blake2b(_ENCODER.encode((key, example)), digest_size=8).digest()) % _MODULUS


def add(*digests: int) -> int:
  """The digest of several examples, or of several groups of them; 0 if there are none."""
  return sum(digests) % _MODULUS


def to_text(total: int) -> str:
  """The digest as written to metadata.json."""
  return f'{total:016x}'


def digested(
  examples: Iterable[tuple[str, dict]], digests: MutableMapping[str, str], split: str
) -> Iterator[tuple[str, dict]]:
  """Yields the (key, example) pairs of a split, then writes their digest into `digests`."""
  total = 0
  for key, example in examples:
    total = add(total, digest(key, example))
    yield key, example
  digests[split] = to_text(total)


def _plain(value: Any) -> Any:
  array = np.asarray(value)
  return array.tolist() if array.dtype == object else (array.shape, array.tobytes())


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain, order='deterministic')
