"""From TFRecords to batches: the only place that knows the batch contract.

Every batch is a dict of

  image         float32[B, S, S, 3]  RGB, normalised with ImageNet's mean and standard deviation
  label         int32[B], or float32[B, C] of 0 and 1 where an image has several (COCO)
  point         float32[B, K, 2]     (x right, y down) in [0, 1] of the CROP; 0 where masked
  point_mask    float32[B, K]        1 where there is a point inside the crop
  example_mask  float32[B]           0 for the padding of the last evaluation batch, else 1

K = 1 for ImageNet-AB, T for its traces, 80 for COCO-AB (one per class). B is the host's part of the
global batch. There is no -1 and no (y, x) order.

Training: row r of step s is number g = s * batch_size + r of an endless stream of epochs of N
examples; epoch g // N, position g % N. Order = f(seed, epoch), augmentation = f(seed, epoch,
position), both stateless: a run that is resumed at `start_step`, or spread over other hosts, sees
the same bytes. A window as in torchvision's RandomResizedCrop, resized, flipped, jittered.

Evaluation: every example once, in file order; short side to `eval_resize`, centre crop. It sees the
real byproducts whatever `control` says, and the real labels whatever `icon_label` says: both are
about what the model is trained on.

TensorFlow only reads here: accelerators are hidden from it.
"""

import functools
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from luab_jax import geometry, image_ops, records, targets
from luab_jax.errors import UserError

tf.config.set_visible_devices([], 'GPU')

# Folded into the seed, one for each use of it.
_ORDER, _AUGMENT, _CONTROL = 0, 1, 2


class DatasetSpec(NamedTuple):
  """What a model needs to know of a data set."""

  name: str
  class_names: list[str]
  num_classes: int
  multi_label: bool
  num_points: int  # K of the batch contract
  num_examples: dict[str, int]  # of each whole split


def dataset_spec(data):
  """Reads the metadata of the data set that a config's `data` part names.

  Args:
    data: the `data` part of a config.

  Returns:
    DatasetSpec.

  Raises:
    UserError: the data set is not there (with the command that builds it), is not one of ours, or
      an option has an unknown value.
  """
  _check_options(data)
  builder = records.open_builder(data.name, data.data_dir)
  features = builder.info.features
  multi_label = 'icons' in features
  if not multi_label and 'clicks' not in features:
    raise UserError(f'{builder.data_path} has no byproduct columns (clicks or icons): build it '
                    'with one of the builders in tfds_builders/')
  if multi_label and data.byproduct == 'trace':
    raise UserError("data.byproduct='trace' needs one object an image: COCO's images have several; "
                    "use 'click' with data.name='coco_ab/…'")
  names = features['labels'].feature.names if multi_label else features['label'].names
  num_points = data.trace_points if data.byproduct == 'trace' else 1
  return DatasetSpec(
      name=data.name,
      class_names=list(names),
      num_classes=len(names),
      multi_label=multi_label,
      num_points=len(names) if multi_label else num_points,
      num_examples={name: split.num_examples for name, split in builder.info.splits.items()})


def train_batches(data, *, seed, batch_size, start_step=0, num_hosts=1, host=0):
  """The endless training batches of one host, from `start_step` on.

  Args:
    data: the `data` part of a config.
    seed: int; with it alone the order and the augmentation change.
    batch_size: int, global; may exceed the data set: a batch spans epochs where it has to.
    start_step: int, first step; what its epoch has before it is read but not decoded.
    num_hosts, host: ints, which contiguous rows of each global batch to yield.

  Returns:
    tf.data.Dataset of batches (module docstring) of batch_size / num_hosts rows.

  Raises:
    UserError: wrong option, data set, split or batch size.
  """
  source = _Source(data, data.train_split)
  rows = _rows_per_host(batch_size, num_hosts)
  stream = source.training_stream(seed, batch_size, start_step, num_hosts, host)
  control = _control(source, seed)

  @tf.autograph.experimental.do_not_convert  # plain ops: conversion only costs start-up time
  def example(epoch, position, index, record):
    fields = source.parse(record)
    points, has = control(index, *source.points(fields))
    example_seed = records.fold(seed, _AUGMENT, epoch, position)
    return _train_example(source, fields, points, has, example_seed)

  batches = stream.map(example, num_parallel_calls=_cores(), deterministic=True)
  return batches.batch(rows, drop_remainder=True).prefetch(2).with_options(_options())


def eval_batches(data, split, *, batch_size, num_hosts=1, host=0):
  """Every example of a split once over all hosts, in file order.

  Args:
    data: the `data` part of a config.
    split: TFDS split or subsplit.
    batch_size: int, global.
    num_hosts, host: ints, which contiguous rows of each global batch to yield.

  Returns:
    (tf.data.Dataset of batches, their number: the same on every host). What is missing to full
    batches is zeros, with example_mask 0; a host may get a batch of nothing else.

  Raises:
    UserError: wrong option, data set, split or batch size.
  """
  source = _Source(data, split)
  rows = _rows_per_host(batch_size, num_hosts)
  num_examples = source.split.num_examples
  num_batches = -(-num_examples // batch_size)
  stream = source.evaluation_stream(batch_size, num_hosts, host)

  @tf.autograph.experimental.do_not_convert
  def example(index, record):
    del index
    fields = source.parse(record)
    return _eval_example(source, fields, *source.points(fields))

  examples = stream.map(example, num_parallel_calls=_cores(), deterministic=True)
  padding = num_batches * rows - records.host_rows(num_examples, batch_size, num_hosts, host)
  zeros = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), examples.element_spec)
  examples = examples.concatenate(tf.data.Dataset.from_tensors(zeros).repeat(padding))
  batches = examples.batch(rows, drop_remainder=True).prefetch(2).with_options(_options())
  return batches.apply(tf.data.experimental.assert_cardinality(num_batches)), num_batches


class _Source:
  """One split of a data set, its columns, and how its records become fields, labels and points."""

  def __init__(self, data, split):
    self.data = data
    self.spec = dataset_spec(data)
    builder = records.open_builder(data.name, data.data_dir)
    self.split = records.open_split(builder, split)
    self._features = builder.info.features

  def parse(self, record, image=True):
    """A serialised record -> nested dict of the columns in use; `image` stays undecoded bytes."""
    columns = _columns(self.spec.multi_label, self.data)
    if image:
      columns['image'] = True
    features = tfds.decode.PartialDecoding(columns).extract_features(self._features)
    decoders = {'image': tfds.decode.SkipDecoding()} if image else None
    return features.deserialize_example(record, decoders=decoders)

  def points(self, fields):
    """(float32[K, 2], float32[K]) relative to the image, see targets.py."""
    data = self.data
    if self.spec.multi_label:
      add = self._features['actions']['action'].str2int('add')
      return targets.icon_points(fields, self.spec.class_names, add, data.icons)
    selected = fields['blocks']['selected']
    if data.byproduct == 'trace':
      return targets.trace_points(fields['trace'], fields['clicks'], selected, data.trace_points)
    return targets.click_point(fields['clicks'], selected, data.click)

  def label(self, fields):
    """int32 scalar, or float32[C] of 0 and 1."""
    if self.spec.multi_label:
      return targets.multi_hot(fields['labels'], self.spec.num_classes)
    return tf.cast(fields['label'], tf.int32)

  def training_stream(self, seed, batch_size, start_step, num_hosts, host):
    """This host's records: (epoch, position, index in the split, record), from `start_step` on."""
    stream = records.shuffled(self.split, records.fold(seed, _ORDER), start=start_step * batch_size,
                              buffer_size=self.data.shuffle_buffer)
    return records.rows_of_host(
        stream, batch_size, num_hosts, host,
        lambda epoch, position, *_: epoch * self.split.num_examples + position)

  def evaluation_stream(self, batch_size, num_hosts, host):
    """This host's records: (index in the split, record)."""
    return records.rows_of_host(records.in_order(self.split), batch_size, num_hosts, host,
                                lambda index, _: index)


def _columns(multi_label, data):
  """The columns that the chosen options need; nothing else of a record is decoded."""
  if multi_label and data.icons == 'adds_only':
    return {'labels': True, 'actions': {'action', 'icon', 'to_x', 'to_y'}}
  if multi_label:
    return {'labels': True, 'icons': {'label', 'x', 'y'}}
  rows = {'x', 'y', 'time_ms', 'block'}
  columns = {'label': True, 'blocks': {'selected'}, 'clicks': rows}
  return columns | {'trace': rows} if data.byproduct == 'trace' else columns


def _control(source, seed):
  """Returns (index, points, has) -> (points, has) of what stands in for the recorded byproducts.

  'shuffled': a fixed permutation of them among the images of the split that have one (for COCO: of
  the icons of each class). 'uniform': a fixed random position each. Both in image coordinates,
  the same in every epoch.
  """
  control = source.data.control
  seed = records.fold(seed, _CONTROL)
  if control == 'uniform':
    return lambda index, points, has: (
        targets.uniform_points(points, tf.random.fold_in(seed, index, alg='philox')), has)
  if control == 'shuffled':
    points, has = (tf.constant(column) for column in _shuffled_table(source, seed))
    return lambda index, *_: (tf.gather(points, index), tf.gather(has, index))
  return lambda index, points, has: (points, has)


def _shuffled_table(source, seed):
  """Permuted byproducts of the split: numpy float32[N, K, 2] and float32[N, K].

  One pass over the raw records, whose images stay undecoded. A trace moves as a whole.
  """
  table = records.in_order(source.split).map(
      lambda _, record: source.points(source.parse(record, image=False)),
      num_parallel_calls=_cores(), deterministic=True)
  table = table.batch(1024).with_options(_options())
  # Silent unless it takes long or is not seen by anybody.
  with tqdm(total=source.split.num_examples, desc=f'byproducts of {source.split.name}',
            unit='image', delay=5, disable=None) as bar:
    parts = []
    for part in table.as_numpy_iterator():
      parts.append(part)
      bar.update(len(part[0]))
  points, has = (np.concatenate(column) for column in zip(*parts, strict=True))
  rng = np.random.default_rng(seed.numpy().astype(np.uint64))
  for column in range(points.shape[1]) if source.spec.multi_label else [slice(None)]:
    rows = np.flatnonzero(has[:, column].reshape(len(has), -1).any(axis=1))
    points[rows, column] = points[rng.permutation(rows), column]
  return points, has


def _train_example(source, fields, points, has, seed):
  """Fields and points of an image -> the training example cut out of it by stateless `seed`."""
  data = source.data
  crop_seed, flip_seed, jitter_seed = tf.unstack(tf.random.split(seed, 3, alg='philox'))
  choose = functools.partial(geometry.sample_window, crop_seed, scale=data.crop_scale,
                             ratio=data.crop_ratio)
  image, size, window = image_ops.decode_window(fields['image'], choose)
  flip = geometry.sample_flip(flip_seed) & data.flip
  image = image_ops.resize(image, [data.image_size] * 2, data.resize_method)
  image = image_ops.flip(image, flip)
  if data.color_jitter:
    image = image_ops.color_jitter(image, jitter_seed, data.color_jitter)
  points, mask = geometry.move_points(points, has, size, window, flip)
  label = source.label(fields)
  if source.spec.multi_label and data.icon_label == 'drop_when_icon_cropped':
    label = targets.drop_cropped_labels(label, has, mask)
  return _example(image, label, points, mask)


def _eval_example(source, fields, points, has):
  """Fields and points of an image -> the evaluation example: resized, centre crop."""
  data = source.data
  image = image_ops.decode(fields['image'])
  height, width = tf.unstack(tf.shape(image)[:2])
  resized, window = geometry.centre_window(height, width, resize=data.eval_resize,
                                           size=data.image_size)
  image = image_ops.crop(image_ops.resize(image, resized, data.resize_method), window)
  image = tf.ensure_shape(image, [data.image_size, data.image_size, 3])
  points, mask = geometry.move_points(points, has, resized, window)
  return _example(image, source.label(fields), points, mask)


def _example(image, label, points, mask):
  return {'image': image_ops.normalise(image), 'label': label, 'point': points, 'point_mask': mask,
          'example_mask': tf.constant(1.0)}


def _check_options(data):
  """Raises UserError for option values that would fail later or not mean anything."""
  for key, allowed in (('byproduct', targets.BYPRODUCTS), ('click', targets.CLICKS),
                       ('icons', targets.ICONS), ('icon_label', targets.ICON_LABELS),
                       ('control', targets.CONTROLS), ('resize_method', image_ops.METHODS)):
    if data[key] not in allowed:
      raise UserError(f"data.{key}='{data[key]}' is unknown: choose one of {', '.join(allowed)}")
  for key, low in (('image_size', 1), ('eval_resize', data.image_size), ('shuffle_buffer', 1),
                   ('color_jitter', 0), ('trace_points', 2 if data.byproduct == 'trace' else 0)):
    if data[key] < low:
      raise UserError(f'data.{key}={data[key]} is too small: at least {low}')
  for key, high in (('crop_scale', 1), ('crop_ratio', float('inf'))):
    if len(data[key]) != 2 or not 0 < data[key][0] <= data[key][1] <= high:
      raise UserError(f'data.{key}={tuple(data[key])} must be (smallest, largest), both above 0'
                      + ('' if high > 1 else ' and at most 1'))


def _rows_per_host(batch_size, num_hosts):
  if batch_size < 1 or batch_size % num_hosts:
    raise UserError(f'batch_size={batch_size} does not split evenly over {num_hosts} hosts: choose '
                    f'a multiple of {num_hosts}')
  return batch_size // num_hosts


def _cores():
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _options():
  """Deterministic, with fixed parallelism: autotune ends short loops up to a second late."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.private_threadpool_size = _cores()
  options.threading.max_intra_op_parallelism = 1
  return options
