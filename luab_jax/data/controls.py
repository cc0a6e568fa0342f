"""Controls: byproducts that say nothing about their image, to measure what the real ones add.

'shuffled': a fixed permutation of the byproducts among the images of the training split that have
one (for COCO: of the icons of each class). 'uniform': a fixed random position for each. Both are in
image coordinates, before the crop, and the same in every epoch: f(seed, index of the record in the
split). Whatever depends on the points, such as COCO's dropped labels, then depends on these.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from luab_jax.data import geometry, tfrecords
from luab_jax.data.dataset import Source
from luab_jax.data.filters import Filter

Points = tuple[tf.Tensor, tf.Tensor]  # float32[K, 2] and float32[K], as in targets.py


def make_control(source: Source, seed: tf.Tensor, filtered: Filter) -> Callable[..., Points]:
  """The control that `data.control` names; for 'shuffled' this reads the split once.

  Args:
    source: of the training split.
    seed: a stateless seed, int64[2].
    filtered: from `filters.make_filter`.

  Returns:
    A function (index int64 scalar, points float32[K, 2], has float32[K]) -> (points, has) that
    replaces the recorded byproducts of record `index`.
  """
  control = source.data.control
  if control == 'uniform':
    return lambda index, points, has: (uniform_points(points, tf.random.fold_in(seed, index)), has)
  if control == 'shuffled':
    points, has = _read_byproducts(source, filtered)
    points = permute(
      points,
      has,
      np.random.default_rng(seed.numpy().astype(np.uint64)),
      per_column=source.spec.point_per_class,
    )
    points, has = tf.constant(points), tf.constant(has)
    return lambda index, *_: (tf.gather(points, index), tf.gather(has, index))
  return lambda index, points, has: (points, has)


def uniform_points(points: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Replaces recorded points, float32[K, 2], by independent ones, uniform over the image.

  A point recorded outside the image is kept, so that as many points count as without the control.
  """
  random = tf.random.stateless_uniform(tf.shape(points), seed)
  return tf.where(geometry.inside(points)[..., None], random, points)


def permute(
  points: np.ndarray, has: np.ndarray, rng: np.random.Generator, *, per_column: bool
) -> np.ndarray:
  """Permutes byproducts among the images that have one.

  Args:
    points, has: float32[N, K, 2] and float32[N, K].
    rng: source of randomness.
    per_column: whether to permute each of the K columns by itself (classes) instead of complete
      rows (traces).

  Returns:
    float32[N, K, 2]; `has` stays valid, as a trace has all of its points or none.
  """
  points = points.copy()
  for column in range(points.shape[1]) if per_column else [slice(None)]:
    rows = np.flatnonzero(has[:, column].reshape(len(has), -1).any(axis=1))
    points[rows, column] = points[rng.permutation(rows), column]
  return points


def _read_byproducts(source: Source, filtered: Filter) -> tuple[np.ndarray, np.ndarray]:
  """All byproducts of the split: float32[N, K, 2] and float32[N, K], in file order."""

  def of_record(index: tf.Tensor, record: tf.Tensor) -> Points:
    points, has = source.train_points(filtered(index, source.parse_byproducts(record)))
    return tf.ensure_shape(points, [source.spec.num_points, 2]), has

  parts = list(tfrecords.scan(source.split, of_record))
  points, has = (np.concatenate(column) for column in zip(*parts, strict=True))
  return points, has
