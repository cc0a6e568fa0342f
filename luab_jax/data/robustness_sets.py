"""Benchmark sets without byproducts: images, each with the set of its valid labels.

The sets are those TFDS builds (imagenet_v2, imagenet2012_real …) and our backgrounds_challenge. One
format fits them all: an ordinary label is a set of one class, a ReaL label a set of any number of
classes, and an ImageNet-9 label the set of all ImageNet classes that belong to it.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from luab_jax.data import tfrecords
from luab_jax.errors import UserError


class Part(NamedTuple):
  """A split of a built data set, and how it is evaluated.

  Attributes:
    data: name in TFDS's folder layout, such as 'imagenet_v2/matched-frequency'.
    split: its split.
    label_column: its column with the valid label or labels.
    cropped: whether the set's authors have already cropped its images to the model's view; if so,
      the whole image is resized to the model's input.
    only_present: whether predictions are restricted to the classes that occur in the set.
  """

  data: str
  split: str
  label_column: str = 'label'
  cropped: bool = False
  only_present: bool = False


class Source:
  """The records of one Part, parsed; the counterpart of `dataset.Source`.

  Attributes:
    split: tfrecords.Split.
    cropped: of the Part.
    num_classes: C.
    has_mask: whether each image has a mask of its foreground.
  """

  def __init__(self, part: Part, data_dir: str, class_names: Sequence[str]):
    """Reads the metadata.

    Args:
      part: the split and how it is evaluated.
      data_dir: where TFDS keeps data sets.
      class_names: of the model, in the order of its logits.

    Raises:
      UserError: the set is missing, has other classes than the model, or lacks a column.
    """
    builder = tfrecords.open_builder(part.data, data_dir)
    self.split = tfrecords.open_split(builder, part.split)
    self.cropped = part.cropped
    self.num_classes = len(class_names)
    self._features = builder.info.features
    self._column = part.label_column
    if self._column not in self._features or 'image' not in self._features:
      raise UserError(
        f"{builder.data_path} has no columns 'image' and '{self._column}': build it "
        'again with TFDS 4.9 or newer'
      )
    _check_classes(builder, part, class_names)
    self.has_mask = 'mask' in self._features
    self._only_present = part.only_present

  @functools.cached_property
  def class_mask(self) -> np.ndarray:
    """bool[C]: the classes that a prediction is chosen from.

    With `only_present`, the classes that occur: every record is read once, images undecoded.
    """
    if not self._only_present:
      return np.ones(self.num_classes, bool)
    labels = (
      tfrecords.in_order(self.split)
      .map(lambda _, record: self._valid_labels(self._parse(record, {self._column})))
      .batch(1024)
    )
    return np.any([rows.any(0) for rows in labels.as_numpy_iterator()], axis=0)

  def parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
    """A serialised record -> {'image': its bytes, 'valid_labels': bool[C]}, and 'mask': bytes."""
    columns = {'image', self._column} | ({'mask'} if self.has_mask else set())
    fields = self._parse(record, columns)
    return {name: fields[name] for name in ('image', 'mask') if name in columns} | {
      'valid_labels': self._valid_labels(fields)
    }

  def parse_file(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
    """Only `file_name` and `image`, for an error message."""
    name = next((n for n in ('file_name', 'image_id') if n in self._features), None)
    fields = self._parse(record, {'image'} | ({name} if name else set()))
    return {
      'image': fields['image'],
      'file_name': tf.strings.as_string(fields[name]) if name else tf.constant('an image'),
    }

  def _parse(self, record: tf.Tensor, columns: set[str]) -> dict[str, tf.Tensor]:
    wanted = tfds.decode.PartialDecoding(dict.fromkeys(columns, True))
    encoded = {name: tfds.decode.SkipDecoding() for name in columns & {'image', 'mask'}}
    return wanted.extract_features(self._features).deserialize_example(record, decoders=encoded)

  def _valid_labels(self, fields: dict[str, tf.Tensor]) -> tf.Tensor:
    classes = tf.reshape(tf.cast(fields[self._column], tf.int32), [-1])
    return tf.reduce_any(tf.one_hot(classes, self.num_classes, True, False, dtype=tf.bool), 0)


def _check_classes(builder: Any, part: Part, class_names: Sequence[str]) -> None:
  """Raises UserError unless the column's classes are the model's."""
  feature = builder.info.features[part.label_column]
  feature = getattr(feature, 'feature', feature)  # for a sequence
  names = feature.names
  nameless = names == [str(i) for i in range(feature.num_classes)]  # siscore: ImageNet's indices
  if feature.num_classes == len(class_names) and (nameless or names == list(class_names)):
    return
  raise UserError(
    f'{builder.data_path} has the classes {_abridged(names)}, the model {_abridged(class_names)}: '
    f'remove {part.data.partition("/")[0]} from config.robustness.sets, or train on the same '
    'classes'
  )


def _abridged(names: Sequence[str]) -> str:
  return f'{names[0]} … {names[-1]} ({len(names)} of them)'
