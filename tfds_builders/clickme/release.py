"""The released TFRecords of ClickMe: where they are and what a record contains.

Names, URLs and features are those of harmonization/common/clickme_dataset.py in
github.com/serre-lab/Harmonization (Fel et al. 2022), whose reader expects JPEGs of 256 x 256
pixels.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from luab_jax.data import image_files
from luab_jax.errors import UserError

URL = 'https://storage.googleapis.com/serrelab/prj_harmonization/dataset/click-me'
SHARDS = {'train': 318, 'val': 17}
SPLITS = {'train': 'train', 'val': 'validation'}  # {folder: split}
SIZE = (256, 256)
NUM_CLASSES = 1000
_FEATURES = {
  'image': tf.io.FixedLenFeature([], tf.string),
  'heatmap': tf.io.FixedLenFeature([], tf.string),
  'label': tf.io.FixedLenFeature([], tf.int64),
}


class BadRecord(ValueError):
  """A record that cannot be used; the message says why."""


class Record(NamedTuple):
  """One image as released; image and heatmap are JPEG files."""

  image: bytes
  heatmap: bytes
  label: int


class Place(NamedTuple):
  """The position of a record."""

  shard: pathlib.Path
  number: int  # index of the record in its shard, from 0

  @property
  def name(self) -> str:
    """A name such as train-3/17, as the release has no file names."""
    return f'{self.shard.stem}/{self.number}'


def find(manual_dir: pathlib.Path, *, complete: bool) -> dict[str, list[pathlib.Path]]:
  """Returns {split: shards} of a folder with train/train-N.tfrecords and val/val-N.tfrecords.

  Args:
    manual_dir: the folder.
    complete: whether all 318 + 17 must be present; otherwise, any shards of either split will do.

  Raises:
    UserError: a shard is missing, or there is none at all.
  """
  found = {}
  for folder, number in SHARDS.items():
    paths = [manual_dir / folder / f'{folder}-{i}.tfrecords' for i in range(number)]
    present = [path for path in paths if path.is_file()]
    if complete and len(present) < number:
      first = next(path for path in paths if path not in present)
      raise UserError(
        f'{first} is missing ({len(present)} of {number} shards are present): python -m '
        f'tfds_builders.clickme.download --out={manual_dir} downloads it; --config=local accepts '
        'fewer'
      )
    if present:
      found[SPLITS[folder]] = present
  if not found:
    raise UserError(
      f'{manual_dir} has no train/train-0.tfrecords or val/val-0.tfrecords: see '
      'tfds_builders/clickme/README.md'
    )
  return found


def read_shard(path: pathlib.Path) -> Iterator[tuple[Place, bytes]]:
  """Yields the records of a shard; raises UserError if it is damaged."""
  try:
    for number, data in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
      yield Place(path, number), data
  except tf.errors.DataLossError as error:
    raise UserError(
      f'{path} is damaged or incomplete: delete it and get it again with python -m '
      'tfds_builders.clickme.download'
    ) from error


def parse(data: bytes) -> Record:
  """Returns the features of a record; raises BadRecord if they are not as in the release."""
  try:
    record = tf.io.parse_single_example(data, _FEATURES)
  except tf.errors.InvalidArgumentError as error:
    raise BadRecord('it does not hold one image, one heatmap and one label') from error
  found = Record(record['image'].numpy(), record['heatmap'].numpy(), int(record['label']))
  if not 0 <= found.label < NUM_CLASSES:
    raise BadRecord(f'label {found.label} is outside 0 to {NUM_CLASSES - 1}')
  for name in ('image', 'heatmap'):
    _check_jpeg(name, getattr(found, name), channels=1 if name == 'heatmap' else 3)
  return found


def _check_jpeg(name: str, data: bytes, *, channels: int) -> None:
  try:
    image_files.image_size(data)  # decodes it
    shape = tuple(tf.io.extract_jpeg_shape(data).numpy())
  except (image_files.BadImage, tf.errors.InvalidArgumentError) as error:
    raise BadRecord(f'{name}: {str(error).splitlines()[0]}') from error
  if shape != (*SIZE, channels):
    height, width, depth = shape
    raise BadRecord(
      f'{name} has {width} × {height} pixels and {depth} channels, expected {SIZE[1]} × {SIZE[0]} '
      f'and {channels}'
    )
