"""Batches for training and evaluation to iterate over; errors name the file that cannot be read."""

import itertools
from collections.abc import Iterator

import tensorflow as tf

from luab_jax.data import image_ops, robustness_sets, tfrecords
from luab_jax.data.dataset import Batch, Source
from luab_jax.data.rows import Rows
from luab_jax.errors import UserError


class Batches:
  """Batches to iterate over as dicts of numpy arrays, from the beginning each time.

  Attributes:
    dataset: the same as a tf.data.Dataset. There, a file that cannot be decoded raises TensorFlow's
      error, which names no file; iterating over Batches raises UserError with its name.
    filtered: one line that says what the filters of the byproducts dropped; '' without filters.
  """

  def __init__(
    self,
    dataset: tf.data.Dataset,
    stream: tf.data.Dataset,
    count: int,
    source: Source | robustness_sets.Source,
    filtered: str = '',
  ):
    """`stream`: the raw records behind `dataset`, in the same order, `count` to a batch."""
    self.dataset = dataset
    self.filtered = filtered
    self._stream = stream
    self._count = count
    self._source = source

  def __iter__(self) -> Iterator[Batch]:
    batches = self.dataset.as_numpy_iterator()
    for number in itertools.count():
      try:
        batch = next(batches)
      except StopIteration:
        return
      except (
        tf.errors.InvalidArgumentError,
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.FailedPreconditionError,
      ) as error:
        raise UserError(self._diagnose(number, error)) from error
      yield batch

  as_numpy_iterator = __iter__

  def _diagnose(self, number: int, error: tf.errors.OpError) -> str:
    """Reads the records of batch `number` again, one by one, to name the one that fails."""
    split = self._source.split
    try:
      for *_, record in self._stream.skip(number * self._count).take(self._count):
        fields = self._source.parse_file(record)
        try:
          image_ops.decode(fields['image'])
        except tf.errors.InvalidArgumentError as failure:
          name = fields['file_name'].numpy().decode(errors='replace')
          return (
            f'{name} in split {split.name} of {split.folder} cannot be decoded as JPEG, PNG, '
            f'BMP or GIF ({_first_line(failure)}): repair or leave out that image and build '
            'the data set again'
          )
    except tf.errors.OpError as failure:
      error = failure
    return (
      f'split {split.name} of {split.folder} cannot be read ({_first_line(error)}): build '
      'the data set again with `tfds build --overwrite`'
    )


def batched(
  dataset: tf.data.Dataset,
  stream: tf.data.Dataset,
  rows: Rows,
  source: Source | robustness_sets.Source,
  filtered: str = '',
) -> Batches:
  """Batches a dataset of examples and prefetches two of them."""
  dataset = dataset.batch(rows.count, drop_remainder=True).prefetch(2)
  dataset = dataset.with_options(tfrecords.deterministic_options())
  return Batches(dataset, stream, rows.count, source, filtered)


def _first_line(error: tf.errors.OpError) -> str:
  return error.message.strip().splitlines()[0]
