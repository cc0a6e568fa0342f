"""outcomes.npz: the result for every example of a run's final evaluation, for paired statistics.

Runs on the same data have their examples in the same order, so that differences can be computed and
resampled example by example.
"""

import io
import pathlib

import numpy as np

from luab_jax.evaluate.localization import Localization
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import write_bytes

FILE = 'outcomes.npz'
Columns = dict[str, np.ndarray]  # {name: [N, ...]}, a row for each example


def collect(splits: dict[str, Columns], places: dict[str, Localization]) -> Columns:
  """Collects the columns of all hosts.

  Args:
    splits: {split: columns of the host's examples}; file_name bytes[N], the others f32 or i32 [N].
    places: {split: Localization of all its images, after `metrics`}, for splits with boxes.

  Returns:
    {'split/name': [N]} of all examples, in file order; file names as str.
  """
  collected: Columns = {}
  for split, columns in splits.items():
    located = places[split].outcomes() if split in places else {}
    everywhere = hosts.concatenate_over_hosts(columns | located)
    everywhere['file_name'] = np.char.decode(everywhere['file_name'], 'utf-8', 'replace')
    collected |= {f'{split}/{name}': column for name, column in everywhere.items()}
  return collected


def write(workdir: pathlib.Path, outcomes: Columns) -> None:
  """Writes `<workdir>/outcomes.npz` atomically on the main host; equal rows give equal bytes.

  Raises UserError if it cannot be written.
  """
  if hosts.is_main_host():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **outcomes)
    write_bytes(workdir / FILE, buffer.getvalue())
