"""Samples for the report: training examples as the model gets them, and its predictions.

Runs on one device of the calling host without collective operations, so that the main host of a
multi-host run can draw when the others are already done.
"""

from typing import Any, NamedTuple

import ml_collections
import numpy as np

from luab_jax.data import pipeline, tfrecords
from luab_jax.data.dataset import Batch, DatasetSpec, Source
from luab_jax.data.rows import Rows
from luab_jax.evaluate.predictor import Predictor

_COUNTED = 10_000  # images


class Examples(NamedTuple):
  """Images as the model gets them.

  Attributes:
    image: u8[N,S,S,3].
    label: i32[N], or f32[N,C] of 0 and 1.
    point: f32[N,K,2], (x, y) in [0, 1] of the crop, NaN where there is none: the click (K = 1),
      the icons (K = C) or, where an image may have several classes, the trace (K = T).
    trace: f32[M,T,2], mouse traces of the first M examples, NaN outside the crop; None where the
      dataset has none, or a control replaces the byproducts.
    recorded: bool[N,K], which points the whole image has, including those that were cropped away.
    filtered: what the filters of the byproducts dropped, see `pipeline.Batches`.
  """

  image: np.ndarray
  label: np.ndarray
  point: np.ndarray
  trace: np.ndarray | None
  recorded: np.ndarray
  filtered: str = ''


class Predictions(NamedTuple):
  """Predictions of a model for N evaluation images.

  Attributes:
    image: u8[N,S,S,3].
    label: i32[N], or f32[N,C].
    point: f32[N,K,2], recorded points, NaN where there is none.
    predicted: f32[N,K,2].
    score: f32[N,C], softmax, or sigmoid for multi-label data.
    weights: f32[N,h,w], non-negative: attention map of the spatial head, or the class activation
      map (CAM).
    map_class: i32[N], the class that the map belongs to.
    box: f32[N,M,4], ground-truth boxes (x0, y0, x1, y1) in [0, 1] of the crop and clipped to it
      (unlike in localisation); NaN where there is none; for multi-label data only those of
      `map_class`.
  """

  image: np.ndarray
  label: np.ndarray
  point: np.ndarray
  predicted: np.ndarray
  score: np.ndarray
  weights: np.ndarray
  map_class: np.ndarray
  box: np.ndarray

  def click_errors(self) -> np.ndarray:
    """f32[N]: distance of recorded and predicted points as a fraction of the image side, averaged
    over the points of an image; NaN for an image without points."""
    distance = np.linalg.norm(self.predicted - self.point, axis=-1)
    known = np.isfinite(distance)
    return np.where(known, distance, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)

  def mistakes(self) -> np.ndarray:
    """f32[N]: the highest score of a class that the image does not have; -1 for a correctly
    classified image of single-label data."""
    if self.label.ndim == 2:
      return np.where(self.label > 0, -1, self.score).max(-1)
    return np.where(self.score.argmax(-1) == self.label, -1, self.score.max(-1))


def training_examples(config: ml_collections.ConfigDict, count: int, traces: int) -> Examples:
  """The first `count` examples that a run trains on (all of a smaller training set).

  Args:
    config: of the run.
    count: number of examples.
    traces: number of examples that come with their mouse traces.
  """
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  count = min(count, tfrecords.open_split(builder, config.data.train_split).num_examples)
  traces = min(count, traces)
  batches = _training_batches(config.data, config.seed, count)
  batch = clicks = next(iter(batches))
  spec = pipeline.dataset_spec(config.data)
  if spec.is_trace and not spec.multi_label:
    clicks = next(iter(_training_batches(config.data, config.seed, count, byproduct='click')))
  # The whole image: the only crop with its full area.
  whole: dict[str, Any] = {
    'crop_scale': (1.0, 1.0),
    'crop_ratio': (0.001, 1000.0),
    'augment': 'none',
  }
  whole |= {'random_erasing': 0.0} | ({'byproduct': 'click'} if clicks is not batch else {})
  recorded = next(iter(_training_batches(config.data, config.seed, count, **whole)))
  trace = None
  has_traces = spec.is_trace or not (spec.multi_label or spec.has_heatmap)
  if has_traces and config.data.control == 'none':
    # The same images in the same crops: order and augmentation depend only on the seed.
    points = max(config.data.trace_points, 32)
    changes = {'byproduct': 'trace', 'trace_points': points}
    trace = _points(next(iter(_training_batches(config.data, config.seed, traces, **changes))))
  return Examples(
    batch['image'],
    batch['label'],
    _points(clicks),
    trace,
    recorded['point_mask'] > 0,
    batches.filtered,
  )


def class_counts(data: ml_collections.ConfigDict, spec: DatasetSpec) -> tuple[dict[str, int], int]:
  """({class: number of training images}, number of images counted, the first of a large set)."""
  source = Source(data, spec, data.train_split)
  count = min(source.split.num_examples, _COUNTED)
  parts = tfrecords.scan(
    tfrecords.part_of(source.split, 0, count),
    lambda _, record: source.label(source.parse_byproducts(record)),
  )
  labels = np.concatenate([np.asarray(part) for part in parts])
  if spec.multi_label:
    counts = labels.sum(0).astype(int)
  else:
    counts = np.bincount(labels, minlength=spec.num_classes)
  return dict(zip(spec.class_names, counts.tolist(), strict=True)), count


def evaluation_images(
  data: ml_collections.ConfigDict, spec: DatasetSpec, split: str, count: int
) -> Examples:
  """The first `count` images of a TFDS split (all of a smaller one) as the model gets them."""
  splits = pipeline.EvalSplits(data, spec, Rows(count))
  batch, whole = (next(iter(splits.batches(split, whole=view)[0])) for view in (False, True))
  real = batch['example_mask'] > 0
  return Examples(
    image=batch['image'][real],
    label=batch['label'][real],
    point=_points(batch)[real],
    trace=None,
    recorded=whole['point_mask'][real] > 0,
  )


def _training_batches(
  data: ml_collections.ConfigDict, seed: int, count: int, **changes: Any
) -> pipeline.Batches:
  """Training batches of `count` examples, with changed config keys."""
  data = data.copy_and_resolve_references()
  data.update(changes)
  spec = pipeline.dataset_spec(data)
  return pipeline.train_batches(data, spec, Rows(count), seed=seed)


def _points(batch: Batch) -> np.ndarray:
  return np.where(batch['point_mask'][..., None] > 0, batch['point'], np.nan).astype(np.float32)


def predictions(predictor: Predictor, spec: DatasetSpec, split: str, limit: int) -> Predictions:
  """Predictions for the first `limit` images of a split (all of a smaller one).

  Args:
    predictor: its `data` names the dataset.
    spec: of the dataset.
    split: TFDS split or subsplit.
    limit: above 0.
  """
  size = predictor.batch_size
  batches, _ = pipeline.eval_batches(predictor.data, spec, split, Rows(size), boxes=True)
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


def _boxes(batch: Batch, map_class: np.ndarray, multi_label: bool) -> np.ndarray:
  known = batch['box_mask'] > 0
  if multi_label:
    known &= batch['box_label'] == map_class[:, None]
  return np.where(known[..., None], batch['box'], np.nan)
