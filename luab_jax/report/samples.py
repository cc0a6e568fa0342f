"""What the report shows: training examples as the model gets them, and its predictions.

All of it runs on one device of the calling host alone, without any collective operation, so that
the main host of a multi-host run can draw while the others are done.
"""

from typing import NamedTuple

import numpy as np

from luab_jax.data import pipeline, tfrecords


class Examples(NamedTuple):
  """Images as the model gets them, before it says anything.

  Attributes:
    image: u8[N,S,S,3].
    label: i32[N], or f32[N,C] of 0 and 1.
    point: f32[N,K,2], (x, y) of the crop, NaN where there is none: click (K = 1) or icons (K = C).
    trace: f32[M,T,2], mouse traces of the first M examples, NaN outside the crop; None where the
      data have none, or a control replaced the byproducts.
  """

  image: np.ndarray
  label: np.ndarray
  point: np.ndarray
  trace: np.ndarray | None


class Predictions(NamedTuple):
  """What a model says of N evaluation images.

  Attributes:
    image: u8[N,S,S,3].
    label: i32[N], or f32[N,C].
    point: f32[N,K,2], recorded points, NaN where there is none.
    predicted: f32[N,K,2].
    score: f32[N,C], softmax, or sigmoid where an image has several classes.
    weights: f32[N,h,w], at least 0: the spatial head's map, or the class activation map (CAM).
    map_class: i32[N], the class that the map belongs to.
    box: f32[N,M,4], true boxes (x0, y0, x1, y1) of the crop as localisation takes them, NaN where
      there is none; where an image has several classes, those of `map_class` alone.
  """

  image: np.ndarray
  label: np.ndarray
  point: np.ndarray
  predicted: np.ndarray
  score: np.ndarray
  weights: np.ndarray
  map_class: np.ndarray
  box: np.ndarray

  def click_errors(self):
    """f32[N]: distance between true and predicted points in fractions of the image, the mean of an
    image's points; NaN for an image without any."""
    distance = np.linalg.norm(self.predicted - self.point, axis=-1)
    known = np.isfinite(distance)
    return np.where(known, distance, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)

  def mistakes(self):
    """f32[N]: the highest score of a class that the image does not have; -1 where that is not the
    model's answer, that is for an image of a single class that was classified correctly."""
    if self.label.ndim == 2:
      return np.where(self.label > 0, -1, self.score).max(-1)
    return np.where(self.score.argmax(-1) == self.label, -1, self.score.max(-1))


def training_examples(config, count, traces):
  """The first examples that a run of `config` trains on, those of the first `traces` with traces.

  They are `count`, or all of a smaller training set.
  """
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  count = min(count, tfrecords.open_split(builder, config.data.train_split).num_examples)
  traces = min(count, traces)
  batch = _first(config.data, config.seed, count)
  if config.data.byproduct == 'trace':
    clicks = _first(_with(config.data, byproduct='click'), config.seed, count)
  else:
    clicks = batch
  trace = None
  if batch['label'].ndim == 1 and config.data.control == 'none':
    # The same images in the same crops: order and augmentation depend on the seed alone.
    points = max(config.data.trace_points, 32)
    data = _with(config.data, byproduct='trace', trace_points=points)
    trace = _points(_first(data, config.seed, traces))
  return Examples(image=batch['image'], label=batch['label'], point=_points(clicks), trace=trace)


def evaluation_images(data, split, count):
  """The first `count` images of a split (all of a smaller one) as the model would get them."""
  batches, _ = pipeline.eval_batches(data, split, batch_size=count)
  batch = next(iter(batches))
  real = batch['example_mask'] > 0
  return Examples(
    image=batch['image'][real], label=batch['label'][real], point=_points(batch)[real], trace=None
  )


def _with(data, **changes):
  data = data.copy_and_resolve_references()
  data.update(changes)
  return data


def _first(data, seed, count):
  return next(iter(pipeline.train_batches(data, seed=seed, batch_size=count)))


def _points(batch):
  return np.where(batch['point_mask'][..., None] > 0, batch['point'], np.nan).astype(np.float32)


def predictions(predictor, split, limit):
  """Predictions for the first `limit` images of a split (all of a smaller one).

  Args:
    predictor: predict.Predictor; of its `data` and in its batches.
    split: TFDS split or subsplit.
    limit: int > 0.
  """
  size = predictor.batch_size
  batches, _ = pipeline.eval_batches(predictor.data, split, batch_size=size, boxes=True)
  parts = []
  for batch in batches:
    output = predictor.outputs(batch['image'], batch['point_mask'])
    output |= {
      'image': batch['image'],
      'label': batch['label'],
      'point': _points(batch),
      'box': _boxes(batch, output['map_class'], predictor.multi_label),
    }
    real = batch['example_mask'] > 0
    parts.append({name: value[real] for name, value in output.items()})
    if len(parts) * size >= limit:
      break
  return Predictions(
    **{name: np.concatenate([part[name] for part in parts])[:limit] for name in Predictions._fields}
  )


def _boxes(batch, map_class, multi_label):
  shown = batch['box_mask'] > 0
  if multi_label:
    shown &= batch['box_label'] == map_class[:, None]
  return np.where(shown[..., None], batch['box'], np.nan)
