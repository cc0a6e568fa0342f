"""Controls: byproducts that say nothing about their image, to tell what the real ones add.

'shuffled': a fixed permutation of the byproducts among the images of the training split that have
one (for COCO: of the icons of each class). 'uniform': a fixed random position each. Both in image
coordinates, before the crop, and the same in every epoch: f(seed, number of the record in the
split). What follows from the points, as COCO's dropped labels, follows from these.
"""

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from luab_jax.data import geometry, tfrecords


def make_control(source, seed, options):
  """Looks at data.control; for 'shuffled' this reads the split once.

  Args:
    source: dataset.Source of the training split.
    seed: a stateless seed, int64[2].
    options: tf.data.Options for that reading.

  Returns:
    A function (index int64 scalar, points float32[K, 2], has float32[K]) -> (points, has) of what
    stands in for the recorded byproducts of record `index`.
  """
  control = source.data.control
  if control == 'uniform':
    return lambda index, points, has: (uniform_points(points, tf.random.fold_in(seed, index)), has)
  if control == 'shuffled':
    points, has = _table(source, options)
    points = permute(
      points,
      has,
      np.random.default_rng(seed.numpy().astype(np.uint64)),
      per_column=source.spec.multi_label,
    )
    points, has = tf.constant(points), tf.constant(has)
    return lambda index, *_: (tf.gather(points, index), tf.gather(has, index))
  return lambda index, points, has: (points, has)


def uniform_points(points, seed):
  """Independent positions, uniform over the image, in place of float32[K, 2] recorded ones.

  A point recorded outside the image stays there, so that as many points count as without control.
  """
  random = tf.random.stateless_uniform(tf.shape(points), seed)
  return tf.where(geometry.inside(points)[..., None], random, points)


def permute(points, has, rng, *, per_column):
  """Permutes byproducts among the images that have one.

  Args:
    points, has: numpy float32[N, K, 2] and float32[N, K].
    rng: numpy Generator.
    per_column: each of the K columns by itself (classes) rather than whole rows (traces).

  Returns:
    float32[N, K, 2]; `has` stays right, as a trace has all of its points or none.
  """
  points = points.copy()
  for column in range(points.shape[1]) if per_column else [slice(None)]:
    rows = np.flatnonzero(has[:, column].reshape(len(has), -1).any(axis=1))
    points[rows, column] = points[rng.permutation(rows), column]
  return points


def _table(source, options):
  """All byproducts of the split: numpy float32[N, K, 2] and float32[N, K], in file order."""
  table = tfrecords.in_order(source.split).map(
    lambda _, record: source.train_points(source.parse_byproducts(record)),
    num_parallel_calls=options.threading.private_threadpool_size,
    deterministic=True,
  )
  table = table.batch(1024).with_options(options)
  parts = []
  # The bar shows up only where somebody watches and it takes long.
  with tqdm(
    total=source.split.num_examples,
    desc=f'byproducts of {source.split.name}',
    unit='image',
    delay=5,
    disable=None,
  ) as bar:
    for part in table.as_numpy_iterator():
      parts.append(part)
      bar.update(len(part[0]))
  return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
