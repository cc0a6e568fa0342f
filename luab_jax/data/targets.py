"""From the byproduct columns of one example to points: float32[K, 2] and `has` float32[K].

`points` are (x right, y down) relative to the image, as recorded: they may lie outside [0, 1], and
are 0 without a byproduct. `has` is 1 where there is a byproduct. Which of them a crop keeps is
decided in geometry.py. TensorFlow ops, eager or inside tf.data.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

CLICKS = ('mean', 'first', 'last')
ICONS = ('replayed', 'adds_only', 'named')
ICON_POINTS = ('with_instance', 'all')
BYPRODUCTS = ('click', 'trace')
CONTROLS = ('none', 'shuffled', 'uniform')
ICON_LABELS = ('drop_when_icon_cropped', 'keep')

_BUCKETS = 2**20  # resolution of the fraction of images that keep their byproducts

Columns = dict[str, Any]  # {name: tensor [n]} of a nested column


def click_point(clicks: Columns, selected: tf.Tensor, how: str) -> tuple[tf.Tensor, tf.Tensor]:
  """One point from the clicks of the blocks that were selected when the page was submitted.

  Args:
    clicks: dict of x, y float32[n], time_ms int64[n], block int32[n]. Rows without finite
      coordinates are ignored.
    selected: bool[blocks].
    how: 'mean' (authors): the mean of the first click of each selected block; 'first' or
      'last': the earliest or latest click in any selected block. Clicks with the same time keep
      their order.

  Returns:
    (float32[1, 2], float32[1]).
  """
  xy, _, block = _selected_rows(clicks, selected)
  if how == 'mean':
    chosen = tf.boolean_mask(xy, _first_of_each(block))
  else:
    chosen = xy[:1] if how == 'first' else xy[-1:]
  count = tf.cast(tf.shape(chosen)[0], tf.float32)
  point = tf.math.divide_no_nan(tf.reduce_sum(chosen, axis=0), count)
  return point[None], tf.minimum(count, 1)[None]


def trace_points(
  trace: Columns, clicks: Columns, selected: tf.Tensor, num_points: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """The mouse trace up to the click, resampled to points evenly spaced in time (ours).

  Only the first selected block is used. The path has its samples up to its first click, in time
  order, and ends with that click. Point k of T is the path at time start + (end - start) * k /
  (T - 1), interpolated linearly in time, where start is the time of the first sample and end that
  of the click. Without a selected block, a click in it or a sample before the click, all T points
  are masked.

  Args:
    trace, clicks: dicts of x, y float32[n], time_ms int64[n], block int32[n].
    selected: bool[blocks].
    num_points: T, at least 2.

  Returns:
    (float32[T, 2], float32[T]).
  """
  blocks = tf.range(tf.shape(selected)[0])
  first = tf.reduce_min(tf.where(selected, blocks, tf.int32.max))  # int32.max if none is selected
  only_first = tf.equal(blocks, first)
  click_xy, click_time, _ = _selected_rows(clicks, only_first)
  track_xy, track_time, _ = _selected_rows(trace, only_first)
  end = click_time[:1]  # empty without a click
  before = track_time <= tf.reduce_max(end)  # max of nothing is the smallest int64
  xy = tf.concat([tf.boolean_mask(track_xy, before), click_xy[:1]], axis=0)
  time = tf.concat([tf.boolean_mask(track_time, before), end], axis=0)
  return _resample(xy, time, num_points)


def narrated_trace_points(trace: Columns, num_points: int) -> tuple[tf.Tensor, tf.Tensor]:
  """The mouse trace of the first narrative that has one, resampled as in `trace_points` (ours).

  There is no click: the path goes from the first sample to the last, in a straight line while the
  mouse was off the image. With fewer than two samples, all points are masked.

  Args:
    trace: dict of x, y float32[n], time_ms int64[n], block int32[n], the number of the narrative.
    num_points: T, at least 2.

  Returns:
    (float32[T, 2], float32[T]).
  """
  first = tf.reduce_min(trace['block'])
  later = tf.cast(trace['block'] > first, tf.int32)
  xy, time, _ = _selected_rows(trace | {'block': later}, tf.constant([True, False]))
  return _resample(xy, time, num_points)


def _resample(xy: tf.Tensor, time: tf.Tensor, num_points: int) -> tuple[tf.Tensor, tf.Tensor]:
  """(float32[T, 2], float32[T]) of a path float32[m, 2] at ascending times int64[m]."""
  known = tf.shape(time)[0] >= 2

  def resample() -> tf.Tensor:
    knots = tf.cast(time - time[0], tf.float32)  # ms since the start; exact below 4.6 hours
    wanted = tf.linspace(0.0, knots[-1], num_points)
    right = tf.clip_by_value(tf.searchsorted(knots, wanted, side='right'), 1, tf.size(knots) - 1)
    t0, t1 = tf.gather(knots, right - 1), tf.gather(knots, right)
    # Of two knots at the same time, the later one counts.
    weight = tf.where(t1 > t0, (wanted - t0) / tf.where(t1 > t0, t1 - t0, 1.0), 1.0)[:, None]
    return (1 - weight) * tf.gather(xy, right - 1) + weight * tf.gather(xy, right)

  points = tf.cond(known, resample, lambda: tf.zeros([num_points, 2]))
  return points, tf.fill([num_points], tf.cast(known, tf.float32))


def _selected_rows(rows: Columns, selected: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """(xy float32[m, 2], time_ms int64[m], block int32[m]) of selected blocks, in time order."""
  xy = tf.stack([rows['x'], rows['y']], axis=-1)
  keep = tf.gather(selected, rows['block']) & tf.reduce_all(tf.math.is_finite(xy), axis=-1)
  order = tf.argsort(rows['time_ms'], stable=True)
  order = tf.boolean_mask(order, tf.gather(keep, order))
  return tf.gather(xy, order), tf.gather(rows['time_ms'], order), tf.gather(rows['block'], order)


def _first_of_each(values: tf.Tensor) -> tf.Tensor:
  """bool[n]: which of `values` [n] differ from all values before them."""
  same = tf.cast(values[:, None] == values[None, :], tf.int32)
  return tf.reduce_sum(tf.linalg.band_part(same, -1, 0), axis=1) == 1  # itself only


def icon_points(
  example: Columns, class_names: Sequence[str], add_action: int, how: str
) -> tuple[tf.Tensor, tf.Tensor]:
  """One point per class from the icons dropped on a COCO image, or the words said about it.

  Args:
    example: dict with, for 'replayed' and 'named', icons: label int64[n], x, y float32[n], at most
      one per class; for 'adds_only', actions: action int64[n], icon string[n], to_x, to_y
      float32[n].
    class_names: the names of the C classes in label order.
    add_action: int, the label of an `add` action, for 'adds_only'.
    how: 'replayed' (ours): the icons left after every add, move and remove; 'adds_only' (authors):
      where the class was last added, ignoring moves and removes; 'named' (ours): where the mouse
      was while a narrative named the class, as computed by the builder.

  Returns:
    (float32[C, 2], float32[C]).
  """
  if how != 'adds_only':
    icons = example['icons']
    xy = tf.stack([icons['x'], icons['y']], axis=-1)
    of_class = tf.equal(icons['label'][:, None], tf.range(len(class_names), dtype=tf.int64))
  else:
    actions = example['actions']
    xy = tf.stack([actions['to_x'], actions['to_y']], axis=-1)
    of_class = tf.equal(actions['icon'][:, None], tf.constant(class_names)[None])
    of_class &= tf.equal(actions['action'], add_action)[:, None]
  of_class &= tf.reduce_all(tf.math.is_finite(xy), axis=-1)[:, None]
  rows = tf.range(tf.shape(xy)[0])[:, None]
  last = tf.reduce_max(tf.where(of_class, rows, -1), axis=0)  # [C]; negative without an icon
  has = last >= 0
  # Classes without an icon take the row of zeros in front.
  xy = tf.gather(tf.concat([tf.zeros([1, 2]), xy], axis=0), tf.where(has, last + 1, 0))
  return xy, tf.cast(has, tf.float32)


def true_boxes(
  objects: Columns, label: tf.Tensor, multi_label: bool
) -> tuple[tf.Tensor, tf.Tensor]:
  """The ground-truth boxes of an image.

  Args:
    objects: columns bbox float32[n, 4] (top, left, bottom, right), relative to the image, and, with
      `multi_label`, label int64[n] and is_crowd bool[n].
    label: int32 scalar, the image's class, which is that of all its boxes; not used with
      `multi_label`.
    multi_label: whether each box has a class of its own; if so, boxes around a crowd, which outline
      no single object, are left out.

  Returns:
    (float32[m, 4] (x0, y0, x1, y1), relative to the image, int32[m] classes).
  """
  boxes = tf.gather(objects['bbox'], [1, 0, 3, 2], axis=1)
  if not multi_label:
    return boxes, tf.fill(tf.shape(boxes)[:1], label)
  single = ~objects['is_crowd']
  return tf.boolean_mask(boxes, single), tf.boolean_mask(
    tf.cast(objects['label'], tf.int32), single
  )


def size_groups(objects: Columns, num_classes: int) -> tf.Tensor:
  """The size of the largest object of each class in an image, in COCO's three size classes.

  Args:
    objects: columns area float32[n] (pixels of the segmentation, before any reduction), label
      int64[n], is_crowd bool[n]; crowds are ignored.
    num_classes: C.

  Returns:
    int32[C]: 0 for no object, 1 small (area below 32 * 32), 2 medium (below 96 * 96), 3 large.
  """
  area = tf.where(objects['is_crowd'], -1.0, objects['area'])
  largest = tf.math.unsorted_segment_max(area, objects['label'], num_classes)
  limits = tf.constant([0.0, 32.0**2, 96.0**2])
  return tf.reduce_sum(tf.cast(largest[:, None] >= limits, tf.int32), axis=1)


def multi_hot(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
  """float32[num_classes] with 1 at each of labels int64[n]."""
  return tf.minimum(tf.reduce_sum(tf.one_hot(labels, num_classes), axis=0), 1)


def subsample_byproducts(
  points: tf.Tensor, has: tf.Tensor, file_name: tf.Tensor, fraction: float
) -> tuple[tf.Tensor, tf.Tensor]:
  """Removes the byproducts from all but a fraction of the images (ours).

  Which images keep theirs depends on the file name alone, not on the seed or the split: they are
  the same in every epoch and run, and those of a smaller fraction are a subset of those of a larger
  one.

  Args:
    points, has: float32[K, 2] and float32[K].
    file_name: string scalar.
    fraction: in [0, 1].

  Returns:
    (float32[K, 2], float32[K]), zeros for an image without byproducts.
  """
  # TensorFlow guarantees that this hash stays the same across releases.
  bucket = tf.strings.to_hash_bucket_fast(file_name, _BUCKETS)
  kept = tf.cast(bucket < round(fraction * _BUCKETS), tf.float32)
  return points * kept, has * kept


def drop_cropped_labels(label: tf.Tensor, has: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
  """The authors' COCO policy: a class loses its label when its icon is outside the crop.

  Args:
    label, has, kept: float32[C]; whether the class has an instance, an icon, an icon in the crop.

  Returns:
    float32[C].
  """
  return label * tf.where(has > 0, kept, 1.0)
