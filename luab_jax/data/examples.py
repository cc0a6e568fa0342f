"""One example of a batch: the fields of a record -> the pixels, label and points of a view."""

import functools

import tensorflow as tf
from ml_collections import ConfigDict

from luab_jax.data import augment, geometry, heatmaps, image_ops, robustness_sets, targets
from luab_jax.data.dataset import Fields, Source

# More than almost any image has; any further boxes are only counted, in box_overflow.
MAX_BOXES = 100
# Folded into an example's seed, from which the seeds of crop, flip and jitter are split.
_AUGMENT, _ERASE = 0, 1


def train_example(
  source: Source, fields: Fields, points: tf.Tensor, has: tf.Tensor, seed: tf.Tensor
) -> Fields:
  """Makes a training example of an image: cropped, flipped, jittered and augmented.

  With icon_label='drop_when_icon_cropped', a class also loses its label when an augmentation moves
  its icon out of the image, but keeps it when the icon is erased: the object is hidden, not gone.

  Args:
    source: of the record.
    fields: of the record, from `source.parse`.
    points, has: float32[K, 2] and float32[K], relative to the image.
    seed: a stateless seed, int64[2].

  Returns:
    A row of the batch contract in pipeline.py.
  """
  data = source.data
  crop_seed, flip_seed, jitter_seed = tf.unstack(tf.random.split(seed, 3))
  sample_window = functools.partial(
    geometry.sample_window, crop_seed, scale=data.crop_scale, ratio=data.crop_ratio
  )
  image, size, window = image_ops.decode_window(fields['image'], sample_window)
  flip = geometry.sample_flip(flip_seed) & data.flip
  image = image_ops.resize(image, [data.image_size] * 2, data.resize_method, data.antialias)
  if data.color_jitter:
    image = image_ops.color_jitter(image, jitter_seed, data.color_jitter)
  image = _with_heatmap(image_ops.to_uint8(image), source, fields, size, window)
  image = image_ops.flip(image, flip)
  points, mask = geometry.move_points(points, has, size, window, flip)
  augment_seed, erase_seed = (tf.random.fold_in(seed, use) for use in (_AUGMENT, _ERASE))
  image, points, mask = augment.augment(data, image, points, mask, augment_seed)
  label = source.label(fields)
  if source.spec.point_per_class and data.icon_label == 'drop_when_icon_cropped':
    label = targets.drop_cropped_labels(label, has, mask)
  image, points, mask = augment.erase(data, image, points, mask, erase_seed)
  return _example(image, label, points, mask)


def eval_example(source: Source, fields: Fields, *, boxes: bool, whole: bool) -> Fields:
  """The evaluation example of an image.

  Args:
    source: of the record.
    fields: of the record, from `source.parse`.
    boxes: whether to add the ground-truth boxes.
    whole: whether to use `whole_view` instead of `centre_view`.

  Returns:
    A row of the batch contract in pipeline.py.
  """
  view = whole_view if whole else centre_view
  image, resized, window = view(source.data, image_ops.decode(fields['image']))
  points, has = source.points(fields)
  moved, mask = geometry.move_points(points, has, resized, window)
  image = _with_heatmap(image, source, fields, resized, window)
  example = _example(image, source.label(fields), moved, mask) | source.groups(fields, has)
  if whole and source.spec.has_heatmap:
    example['human_map'] = heatmaps.smoothed(fields['heatmap'], source.data.image_size)
  if boxes:
    example |= _boxes_in_view(*source.boxes(fields), resized, window)
  return example


def eval_points(source: Source, fields: Fields) -> Fields:
  """point and point_mask of `eval_example` in the `centre_view`, without decoding the image."""
  height, width = tf.unstack(image_ops.size(fields['image']))
  resized, window = geometry.centre_window(
    height, width, resize=source.data.eval_resize, size=source.data.image_size
  )
  points, mask = geometry.move_points(*source.points(fields), resized, window)
  return {'point': points, 'point_mask': mask}


def label_set_example(
  data: ConfigDict, source: robustness_sets.Source, fields: Fields, class_mask: tf.Tensor
) -> Fields:
  """The example of an image in a benchmark set; `class_mask` bool[C] is that of the set."""
  size = [data.image_size] * 2
  view = whole_view if source.cropped else centre_view
  image, _, _ = view(data, image_ops.decode(fields['image']))
  example = {
    'image': image,
    'valid_labels': fields['valid_labels'],
    'class_mask': class_mask,
    'example_mask': tf.constant(1.0),
  }
  if source.has_mask:
    mask = tf.image.resize(tf.io.decode_png(fields['mask'], channels=1), size, method='area')
    example['mask'] = mask / 255
  return example


def centre_view(data: ConfigDict, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, geometry.Window]:
  """The view of an image that evaluation and prediction show to the model.

  Args:
    data: the `data` part of a config.
    image: uint8[H, W, 3].

  Returns:
    (image uint8[S, S, 3], int32[2] (height, width) after resizing, the window cropped from it).
  """
  height, width = tf.unstack(tf.shape(image)[:2])
  resized, window = geometry.centre_window(
    height, width, resize=data.eval_resize, size=data.image_size
  )
  image = image_ops.resize(image, resized, data.resize_method, data.antialias)
  image = image_ops.to_uint8(image_ops.crop(image, window))
  return tf.ensure_shape(image, [data.image_size, data.image_size, 3]), resized, window


def whole_view(data: ConfigDict, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, geometry.Window]:
  """The view that localisation is measured on: the whole image, squashed to a square.

  As in the code of "Evaluating Weakly Supervised Object Localization Methods Right"
  (github.com/clovaai/wsolevaluation). Arguments and result as for `centre_view`; no box is clipped.
  """
  side = tf.constant(data.image_size)
  size = [data.image_size] * 2
  image = image_ops.to_uint8(image_ops.resize(image, size, data.resize_method, data.antialias))
  return image, tf.constant(size), geometry.Window(tf.constant(0), tf.constant(0), side, side)


def _boxes_in_view(
  boxes: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: geometry.Window
) -> Fields:
  boxes, visible = geometry.move_boxes(boxes, size, window)
  boxes, label = tf.boolean_mask(boxes, visible), tf.boolean_mask(label, visible)
  kept = tf.minimum(tf.shape(boxes)[0], MAX_BOXES)
  free = MAX_BOXES - kept
  return {
    'box': tf.ensure_shape(tf.pad(boxes[:kept], [[0, free], [0, 0]]), [MAX_BOXES, 4]),
    'box_mask': tf.cast(tf.range(MAX_BOXES) < kept, tf.float32),
    'box_label': tf.ensure_shape(tf.pad(label[:kept], [[0, free]]), [MAX_BOXES]),
    'box_overflow': tf.shape(boxes)[0] - kept,
  }


def _with_heatmap(
  image: tf.Tensor, source: Source, fields: Fields, size: tf.Tensor, window: geometry.Window
) -> tf.Tensor:
  """The view, with its heat map as a fourth channel that is moved with it from here on."""
  if not source.spec.has_heatmap:
    return image
  heat = heatmaps.view(fields['heatmap'], size, window, source.data.image_size)
  return tf.concat([image, heat], axis=-1)


def _example(image: tf.Tensor, label: tf.Tensor, points: tf.Tensor, mask: tf.Tensor) -> Fields:
  heatmap = {'heatmap': image[..., 3]} if image.shape[-1] == 4 else {}
  return {
    'image': image[..., :3] if heatmap else image,
    **heatmap,
    'label': label,
    'point': points,
    'point_mask': mask,
    'example_mask': tf.constant(1.0),
  }
