"""Raw records of data sets built by TFDS: finding a data set, its splits, and their records.

A built folder is read by its metadata alone, without the builder's code. Records stay serialised
here, so that skipping, shuffling and splitting between hosts cost no decoding.
"""

import glob
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format
from tqdm import tqdm

from luab_jax import cores
from luab_jax.errors import UserError

_SCANNED = 1024  # records at a time


class Split(NamedTuple):
  """One split or TFDS subsplit: N records in `files`.

  `first` numbers the records: file f holds the records first[f] ... first[f] + take[f] - 1.
  """

  name: str
  folder: str  # of the data set
  num_examples: int
  paths: list[str]
  skip: np.ndarray  # int64[files], records before the split's first in that file
  take: np.ndarray  # int64[files]
  first: np.ndarray  # int64[files]


def open_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  """Finds the newest version of a built data set.

  Args:
    name: 'imagenet_ab/local', or with a version 'imagenet_ab/local:1.0.0'.
    data_dir: the --data_dir that `tfds build` wrote to.

  Returns:
    A read-only tfds builder.

  Raises:
    UserError: there is no such data set, its files are not TFRecord files, or its metadata are
      damaged or name Python classes outside of TFDS.
  """
  folder = find_version(name, data_dir)
  if not folder:
    dataset, _, config = name.partition(':')[0].partition('/')
    own = (
      '; images of your own go through `python -m luab_jax.tools.own_data` first (docs/own_data.md)'
      if config == 'local'
      else ''
    )
    raise UserError(
      f"no data set '{name}' in {data_dir}: build it with "
      f'`tfds build tfds_builders/{dataset}{" --config=" + config if config else ""} '
      f'--manual_dir=FOLDER_OF_RAW_FILES --data_dir={data_dir}`{own}'
    )
  builder = _read_only_builder(folder)
  if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
    raise UserError(
      f'{folder} holds {builder.info.file_format.value} files: build the '
      'data set again with `--file_format=tfrecord`'
    )
  return builder


def _read_only_builder(folder: pathlib.Path) -> tfds.core.DatasetBuilder:
  remedy = 'build the data set again with `tfds build --overwrite`'
  try:
    _check_features((folder / 'features.json').read_bytes(), folder)
    return tfds.builder_from_directory(folder)
  except (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    json_format.Error,
  ) as error:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise UserError(f'the metadata in {folder} cannot be read ({reason:.200}): {remedy}') from error


def _check_features(text: bytes, folder: pathlib.Path) -> None:
  """Raises UserError where TFDS would import a module because features.json names it."""

  def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
      classes = key in ('pythonClassName', 'python_class_name') and str(value)
      if (
        key in ('jsonFeature', 'json_feature')
        or (key == 'type' and isinstance(value, str))
        or (classes and not classes.startswith('tensorflow_datasets.core.features.'))
      ):
        raise UserError(
          f'{folder}/features.json names a class unknown to TFDS 4.9 '
          f'({key}: {value!r:.100}): build the data set again with TFDS 4.9 or newer'
        )
    return dict(pairs)

  json.loads(text, object_pairs_hook=check)


def find_version(name: str, data_dir: str) -> pathlib.Path | None:
  """The folder of the newest version of a built data set, or None; see `open_builder`."""
  name, _, version = name.partition(':')
  folder = pathlib.Path(data_dir).expanduser() / name
  versions = [
    found
    for found in map(os.path.dirname, glob.glob('*/dataset_info.json', root_dir=folder))
    if re.fullmatch(r'\d+\.\d+\.\d+', found)
  ]
  if version:
    versions = [v for v in versions if v == version]
  if not versions:
    return None
  return folder / max(versions, key=lambda v: [int(part) for part in v.split('.')])


def open_split(builder: tfds.core.DatasetBuilder, name: str) -> Split:
  """Looks up a split.

  Args:
    builder: from `open_builder`.
    name: 'train', or any TFDS subsplit as 'train[:90%]'.

  Returns:
    A Split of at least one record.

  Raises:
    UserError: unknown, malformed or empty split, or a file of it is missing.
  """
  try:
    files = builder.info.splits[name].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    raise UserError(
      f"no split '{name}' in {builder.data_path}: it has "
      f"{', '.join(sorted(builder.info.splits))} and parts such as 'train[:90%]'"
    ) from error
  files = [f for f in files if f.take > 0]
  if not files:
    raise UserError(f"split '{name}' of {builder.data_path} is empty: choose a larger part of it")
  for f in files:
    if not os.path.exists(f.filename):
      raise UserError(
        f'{f.filename} is missing: build the data set again with `tfds build --overwrite`'
      )
  take = np.array([f.take for f in files], np.int64)
  return Split(
    name=name,
    folder=os.fspath(builder.data_path),
    num_examples=int(take.sum()),
    paths=[os.fspath(f.filename) for f in files],
    skip=np.array([f.skip for f in files], np.int64),
    take=take,
    first=np.cumsum(take) - take,
  )


def part_of(split: Split, start: int, stop: int) -> Split:
  """The records [start, stop) of a Split, with their numbers in it; other files are not opened."""
  begin, end = (np.clip(at - split.first, 0, split.take) for at in (start, stop))
  return split._replace(
    num_examples=stop - start, skip=split.skip + begin, take=end - begin, first=split.first + begin
  )


def first_fraction(builder: tfds.core.DatasetBuilder, name: str, fraction: float) -> str:
  """The TFDS subsplit that holds the first `fraction` of a split's records.

  TFDS shuffles records when it writes them, so this is a random sample; a smaller fraction is a
  subset of a larger one. For a sum of splits, it is the first fraction of each.

  Args:
    builder: from `open_builder`.
    name: a split that `open_split` takes.
    fraction: float in (0, 1].

  Returns:
    For example 'train[0:360]' for 'train[:90%]' of 4,000 records and 0.1.
  """
  splits = builder.info.splits
  parts = []
  for part in tfds.core.ReadInstruction.from_spec(name).to_absolute(splits):
    start = part.from_ or 0
    stop = splits[part.splitname].num_examples if part.to is None else part.to
    parts.append(f'{part.splitname}[{start}:{start + max(round(fraction * (stop - start)), 1)}]')
  return '+'.join(parts)


def fold(seed: int, *numbers: int | tf.Tensor) -> tf.Tensor:
  """A stateless seed, int64[2], from an int seed and further ints or int tensors (scalars)."""
  folded = tf.constant([seed, 0], tf.int64)
  for number in numbers:
    folded = tf.random.fold_in(folded, number)
  return folded


def in_order(split: Split) -> tf.data.Dataset:
  """The records of a Split in file order: dataset of (index int64, record string)."""
  records = _files(split).flat_map(read)
  # A file with fewer records than its metadata says must not go unnoticed.
  return records.apply(tf.data.experimental.assert_cardinality(split.num_examples))


def scan(split: Split, of_record: Callable[..., Any]) -> Iterator[Any]:
  """Yields the results of `of_record(index, record)` in file order, in (ragged) batches of 1,024.

  A progress bar appears only on a terminal, and only if the scan takes long.
  """
  table = in_order(split).map(of_record, num_parallel_calls=cores(), deterministic=True)
  table = table.ragged_batch(_SCANNED).with_options(deterministic_options())
  with tqdm(
    total=split.num_examples,
    desc=f'byproducts of {split.name}',
    unit='image',
    delay=5,
    disable=None,
  ) as bar:
    for part in table:
      yield part
      bar.update(tf.nest.flatten(part)[0].shape[0])


def deterministic_options() -> tf.data.Options:
  """Options of all datasets here.

  No autotune: it can end short loops up to a second late. No rewriting of the graph, which takes a
  fifth of the time to the first batch and makes none of the batches faster here.
  """
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.experimental_optimization.apply_default_optimizations = False
  options.threading.private_threadpool_size = cores()
  options.threading.max_intra_op_parallelism = 1
  return options


def _files(split: Split) -> tf.data.Dataset:
  """Dataset of (path, skip, take, first index) per file."""
  return tf.data.Dataset.from_tensor_slices(
    tuple(map(tf.constant, (split.paths, split.skip, split.take, split.first)))
  )


def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
  """Dataset of (index int64, counted from `first`, record string) of one file."""
  return tf.data.TFRecordDataset(path).skip(skip).take(take).enumerate(first)
