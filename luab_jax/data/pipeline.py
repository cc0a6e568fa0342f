"""From TFRecords to batches: the only place that knows the batch contract.

Every batch is a dict of

  image         uint8[B, S, S, 3]    RGB as decoded; models normalise it, on the device
  label         int32[B], or float32[B, C] of 0 and 1 where an image has several (COCO)
  point         float32[B, K, 2]     (x right, y down) in [0, 1] of the CROP; 0 where masked
  point_mask    float32[B, K]        1 where there is a point inside the crop
  example_mask  float32[B]           0 for the padding of the last evaluation batch, else 1

`eval_batches(..., boxes=True)` adds the true boxes, moved and cut as the image is, M = MAX_BOXES:

  box           float32[B, M, 4]     (x0, y0, x1, y1) in [0, 1] of the crop; 0 where masked
  box_mask      float32[B, M]        1 where there is a box of which the crop shows something
  box_label     int32[B, M]          its class: the image's, or that of a COCO instance
  box_overflow  int32[B]             boxes in the crop beyond the M first ones, which are left out

and for COCO-AB size_group and icon_group, int32[B, C] (`Source.groups`): of the whole image, as the
labels are.

`label_set_batches`, for benchmark sets without byproducts (robustness_sets.py), has image,
example_mask and

  valid_labels  bool[B, C]           the correct classes; none: the image does not count
  class_mask    bool[B, C]           the classes that a prediction is chosen from
  mask          float32[B, S, S, 1]  1 on the foreground; only of sets that have masks

K = 1 for ImageNet-AB, T for its traces, 80 for COCO-AB (one per class). B is the host's part of the
global batch. There is no -1 and no (y, x) order.

Training: row r of step s is number g = s * batch_size + r of an endless stream of epochs of N
examples; epoch g // N, position g % N. Order = f(seed, epoch, batch_size), see shuffling.py,
augmentation = f(seed, epoch, position), both stateless: a run that is resumed at `start_step`, or
spread over other hosts, sees the same bytes. A window as in torchvision's RandomResizedCrop,
resized, flipped, jittered.

Evaluation: every example once, in file order; short side to `eval_resize`, centre crop. It sees the
real byproducts whatever `control` and `byproduct_fraction` say, and the real labels whatever
`icon_label` says: these are about what the model is trained on.

TensorFlow only reads here: accelerators are hidden from it.
"""

import functools
import itertools

import tensorflow as tf

from luab_jax import cores
from luab_jax.data import controls, geometry, image_ops, shuffling, targets, tfrecords
from luab_jax.data.dataset import DatasetSpec, Source, dataset_spec
from luab_jax.errors import UserError

__all__ = [
  'Batches',
  'DatasetSpec',
  'dataset_spec',
  'eval_batches',
  'label_set_batches',
  'train_batches',
]

tf.config.set_visible_devices([], 'GPU')

# More than almost any image has; boxes beyond are counted in box_overflow.
MAX_BOXES = 100

# Folded into the seed, one for each use of it.
_ORDER, _AUGMENT, _CONTROL = 0, 1, 2


class Batches:
  """Batches to iterate over as dicts of numpy arrays, each time from the beginning.

  Attributes:
    dataset: the same as a tf.data.Dataset. A file that cannot be decoded shows up there as
      TensorFlow's error, which names no file; iterating raises UserError with its name.
  """

  def __init__(self, dataset, stream, rows, source):
    self.dataset = dataset
    self._stream = stream  # of the raw records behind `dataset`, in the same order
    self._rows = rows
    self._source = source

  def __iter__(self):
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
        raise UserError(self._diagnosis(number, error)) from error
      yield batch

  as_numpy_iterator = __iter__

  def _diagnosis(self, number, error):
    """Reads the records of batch `number` again, one by one, to name the one that fails."""
    split = self._source.split
    try:
      for *_, record in self._stream.skip(number * self._rows).take(self._rows):
        fields = self._source.parse_file(record)
        try:
          image_ops.decode(fields['image'])
        except tf.errors.InvalidArgumentError as failure:
          name = fields['file_name'].numpy().decode(errors='replace')
          return (
            f'{name} in split {split.name} of {split.folder} cannot be decoded as JPEG, PNG, '
            f'BMP or GIF ({_first_line(failure)}): mend or leave out that image and build '
            'the data set again'
          )
    except tf.errors.OpError as failure:
      error = failure
    return (
      f'split {split.name} of {split.folder} cannot be read ({_first_line(error)}): build '
      'the data set again with `tfds build --overwrite`'
    )


def train_batches(data, *, seed, batch_size, start_step=0, num_hosts=1, host=0):
  """The endless training batches of one host, from `start_step` on.

  Args:
    data: the `data` part of a config.
    seed: int; with it alone the order and the augmentation change.
    batch_size: int, global; may exceed the data set: a batch spans epochs where it has to.
    start_step: int, first step; what its epoch has before it is read but not decoded.
    num_hosts, host: ints, which contiguous rows of each global batch to yield.

  Returns:
    Batches (module docstring) of batch_size / num_hosts rows.

  Raises:
    UserError: wrong option, data set, split or batch size; while iterating, an unreadable record.
  """
  source = Source(data, data.train_split)
  rows = _rows_per_host(batch_size, num_hosts)
  stream = shuffling.shuffled(
    source.split,
    tfrecords.fold(seed, _ORDER),
    shuffling.Rows(batch_size, num_hosts, host),
    start_step=start_step,
    buffer_size=data.shuffle_buffer,
  )
  control = controls.make_control(source, tfrecords.fold(seed, _CONTROL), _options())

  @tf.autograph.experimental.do_not_convert  # plain ops: conversion only costs start-up time
  def example(epoch, position, index, record):
    fields = source.parse(record)
    points, has = control(index, *source.train_points(fields))
    example_seed = tfrecords.fold(seed, _AUGMENT, epoch, position)
    return _train_example(source, fields, points, has, example_seed)

  examples = stream.map(example, num_parallel_calls=cores(), deterministic=True)
  return _batches(examples, stream, rows, source)


def eval_batches(data, split, *, batch_size, num_hosts=1, host=0, boxes=False):
  """Every example of a split once over all hosts, in file order.

  Args:
    data: the `data` part of a config.
    split: TFDS split or subsplit.
    batch_size: int, global.
    num_hosts, host: ints, which contiguous rows of each global batch to yield.
    boxes: bool, whether to add the true boxes; masked throughout where the data set has none.

  Returns:
    (Batches, their number: the same on every host). What is missing to full batches is zeros, with
    example_mask 0; a host may get a batch of nothing else.

  Raises:
    UserError: wrong option, data set, split or batch size; while iterating, an unreadable record.
  """
  source = Source(data, split, boxes=boxes)
  return _once(
    source, lambda fields: _eval_example(source, fields, boxes), batch_size, num_hosts, host
  )


def label_set_batches(data, source, *, batch_size, num_hosts=1, host=0):
  """As `eval_batches`, of the images of a benchmark set and their valid labels.

  Args:
    data: the `data` part of a config: how images are resized and cropped.
    source: robustness_sets.Source.
    batch_size, num_hosts, host: as in `eval_batches`.

  Returns:
    (Batches, their number: the same on every host).
  """
  class_mask = source.class_mask  # may read the whole set: not while TensorFlow traces the pipeline
  return _once(
    source,
    lambda fields: _label_set_example(data, source, fields, class_mask),
    batch_size,
    num_hosts,
    host,
  )


def _once(source, make_example, batch_size, num_hosts, host):
  """(Batches with every example once, padded; their number)."""
  rows = _rows_per_host(batch_size, num_hosts)
  num_examples = source.split.num_examples
  num_batches = -(-num_examples // batch_size)
  stream = tfrecords.rows_of_host(
    tfrecords.in_order(source.split), batch_size, num_hosts, host, lambda index, _: index
  )

  @tf.autograph.experimental.do_not_convert
  def example(_, record):
    return make_example(source.parse(record))

  examples = stream.map(example, num_parallel_calls=cores(), deterministic=True)
  padding = num_batches * rows - tfrecords.host_rows(num_examples, batch_size, num_hosts, host)
  zeros = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), examples.element_spec)
  examples = examples.concatenate(tf.data.Dataset.from_tensors(zeros).repeat(padding))
  return _batches(examples, stream, rows, source), num_batches


def _batches(examples, stream, rows, source):
  """Batches of `rows` examples; the two batches ahead are being made meanwhile."""
  dataset = examples.batch(rows, drop_remainder=True).prefetch(2)
  return Batches(dataset.with_options(_options()), stream, rows, source)


def _train_example(source, fields, points, has, seed):
  """Fields and points of an image -> the training example cut out of it by stateless `seed`."""
  data = source.data
  crop_seed, flip_seed, jitter_seed = tf.unstack(tf.random.split(seed, 3))
  choose = functools.partial(
    geometry.sample_window, crop_seed, scale=data.crop_scale, ratio=data.crop_ratio
  )
  image, size, window = image_ops.decode_window(fields['image'], choose)
  flip = geometry.sample_flip(flip_seed) & data.flip
  image = image_ops.resize(image, [data.image_size] * 2, data.resize_method, data.antialias)
  if data.color_jitter:
    image = image_ops.color_jitter(image, jitter_seed, data.color_jitter)
  image = image_ops.flip(image_ops.to_uint8(image), flip)
  points, mask = geometry.move_points(points, has, size, window, flip)
  label = source.label(fields)
  if source.spec.multi_label and data.icon_label == 'drop_when_icon_cropped':
    label = targets.drop_cropped_labels(label, has, mask)
  return _example(image, label, points, mask)


def _eval_example(source, fields, boxes):
  """Fields and points of an image -> the evaluation example: resized, centre crop."""
  image, resized, window = centre_view(source.data, image_ops.decode(fields['image']))
  points, has = source.points(fields)
  example = _example(
    image, source.label(fields), *geometry.move_points(points, has, resized, window)
  )
  if boxes:
    example |= _boxes_in_view(*source.boxes(fields), resized, window) | source.groups(fields, has)
  return example


def centre_view(data, image):
  """What evaluation and prediction show of an image.

  Args:
    data: the `data` part of a config.
    image: uint8[H, W, 3].

  Returns:
    (image uint8[S, S, 3], int32[2] size after resizing, the geometry.Window cut out of that).
  """
  height, width = tf.unstack(tf.shape(image)[:2])
  resized, window = geometry.centre_window(
    height, width, resize=data.eval_resize, size=data.image_size
  )
  image = image_ops.resize(image, resized, data.resize_method, data.antialias)
  image = image_ops.to_uint8(image_ops.crop(image, window))
  return tf.ensure_shape(image, [data.image_size, data.image_size, 3]), resized, window


def _label_set_example(data, source, fields, class_mask):
  """Fields of a benchmark's image -> its example."""
  size = [data.image_size] * 2
  if source.cropped:
    image = image_ops.to_uint8(
      image_ops.resize(image_ops.decode(fields['image']), size, data.resize_method, data.antialias)
    )
  else:
    image, _, _ = centre_view(data, image_ops.decode(fields['image']))
  example = {
    'image': image,
    'valid_labels': fields['valid_labels'],
    'class_mask': tf.constant(class_mask),
    'example_mask': tf.constant(1.0),
  }
  if source.has_mask:
    mask = tf.image.resize(tf.io.decode_png(fields['mask'], channels=1), size, method='area')
    example['mask'] = mask / 255
  return example


def _boxes_in_view(boxes, label, size, window):
  boxes, seen = geometry.move_boxes(boxes, size, window)
  boxes, label = tf.boolean_mask(boxes, seen), tf.boolean_mask(label, seen)
  kept = tf.minimum(tf.shape(boxes)[0], MAX_BOXES)
  free = MAX_BOXES - kept
  return {
    'box': tf.ensure_shape(tf.pad(boxes[:kept], [[0, free], [0, 0]]), [MAX_BOXES, 4]),
    'box_mask': tf.cast(tf.range(MAX_BOXES) < kept, tf.float32),
    'box_label': tf.ensure_shape(tf.pad(label[:kept], [[0, free]]), [MAX_BOXES]),
    'box_overflow': tf.shape(boxes)[0] - kept,
  }


def _example(image, label, points, mask):
  return {
    'image': image,
    'label': label,
    'point': points,
    'point_mask': mask,
    'example_mask': tf.constant(1.0),
  }


def _rows_per_host(batch_size, num_hosts):
  if batch_size < 1 or batch_size % num_hosts:
    raise UserError(
      f'batch_size={batch_size} does not split evenly over {num_hosts} hosts: choose '
      f'a multiple of {num_hosts}'
    )
  return batch_size // num_hosts


def _first_line(error):
  return error.message.strip().splitlines()[0]


def _options():
  """Deterministic, with fixed parallelism: autotune ends short loops up to a second late."""
  options = tf.data.Options()
  options.deterministic = True
  options.autotune.enabled = False
  options.threading.private_threadpool_size = cores()
  options.threading.max_intra_op_parallelism = 1
  return options
