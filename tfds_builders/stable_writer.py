"""Writes the same bytes for the same examples in every process."""

import tensorflow as tf
from tensorflow_datasets.core import writer


class StableWriter(writer.ExampleWriter):
  """TFDS's writer, with the features of each record sorted by name.

  TFDS leaves their order to protobuf, which draws another one in each process: two builds of the
  same files would be equal in content, but not in their sha256.
  """

  def write(self, path, examples):
    """Writes (key, serialized tf.train.Example); arguments and result as TFDS's."""
    return super().write(path, ((key, _sorted(data)) for key, data in examples))


def _sorted(example: bytes) -> bytes:
  return tf.train.Example.FromString(example).SerializeToString(deterministic=True)
