"""Exact metrics over every example.

`batch_sums` runs on the device and returns (sum, count) pairs of float32 scalars for one batch, to
be summed over devices, hosts and batches (the latter in float64) and divided once at the end.
`average_precision` needs all scores at once and runs in numpy on the host.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from luab_jax.data.dataset import Batch
from luab_jax.models.heads import Outputs
from luab_jax.models.losses import Sums


def valid_points(batch: Batch) -> jax.Array:
  """f32[B,K]: the weight of each point, 0 where none is recorded and for padding, usually 1."""
  return batch['point_mask'] * batch['example_mask'][:, None]


def batch_sums(outputs: Outputs, batch: Batch, *, multi_label: bool) -> Sums:
  """Sums over one device's part of a batch.

  Args:
    outputs: of the model; logits f32[B,C] and points f32[B,K,2].
    batch: label, point, point_mask, example_mask as documented in pipeline.py; in evaluation also
      mean_point f32[B,K,2], see `EvalSplits.mean_point`.
    multi_label: omits top1 and top5, which make no sense there.

  Returns:
    Dict of name -> (sum, count):
      top1, top5: (examples whose label is among the k highest logits, examples). top5 only with
        more than five classes: with fewer it is always 1.
      click_error: (sum of Euclidean distances between predicted and recorded points in fractions of
        the crop, x of its width and y of its height; points).
      click_error_centre, click_error_mean (with mean_point): the same for a constant prediction,
        the centre or the mean point: baselines that a head has to beat.
      points_used: (points, K slots times examples).
  """
  example_mask = batch['example_mask']
  sums: Sums = {}
  if not multi_label:
    logits = outputs['logits']
    # top_k breaks ties by index: comparing with the label's logit would call equal logits right.
    _, top = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    hits = (top == batch['label'][:, None]) * example_mask[:, None]
    sums['top1'] = (hits[:, 0].sum(), example_mask.sum())
    if logits.shape[-1] > 5:
      sums['top5'] = (hits.sum(), example_mask.sum())
  mask = valid_points(batch)
  for name, points in predicted_points(outputs, batch).items():
    distance = jnp.linalg.norm(points - batch['point'], axis=-1)
    sums[name] = (jnp.sum(distance * mask), mask.sum())
  sums['points_used'] = (mask.sum(), example_mask.sum() * mask.shape[1])
  return sums


def example_outcomes(outputs: Outputs, batch: Batch, *, multi_label: bool) -> dict[str, jax.Array]:
  """What each example contributes to `batch_sums`: {name: f32[B]}, and its class.

  Args:
    outputs, batch, multi_label: as in `batch_sums`.

  Returns:
    Without `multi_label`, label and prediction i32[B] (classes) and top1, 1 or 0. click_error and
    the errors of the constant points are means over the example's points, NaN without any. Values
    of padding are meaningless.
  """
  outcomes = {}
  if not multi_label:
    outcomes['label'] = batch['label']
    outcomes['prediction'] = outputs['logits'].argmax(-1)
    outcomes['top1'] = (outcomes['prediction'] == batch['label']).astype(jnp.float32)
  mask = batch['point_mask']
  for name, points in predicted_points(outputs, batch).items():
    distance = jnp.linalg.norm(points - batch['point'], axis=-1)
    outcomes[name] = jnp.sum(distance * mask, -1) / mask.sum(-1)
  return outcomes


def predicted_points(outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
  """{name of the click error: f32[B,K,2] or f32[2]}: the model's points and the constant ones."""
  points = {'click_error': outputs['points']}
  if 'mean_point' in batch:
    points['click_error_centre'] = jnp.full(2, 0.5)
    points['click_error_mean'] = batch['mean_point']
  return points


def learned_no_place(metrics: dict[str, Any]) -> str:
  """A warning if a split's click error is no better than that of a constant point, else ''."""
  if 'click_error_centre' not in metrics:
    return ''
  constants = {
    'always the centre': metrics['click_error_centre'],
    'always the mean training point': metrics['click_error_mean'],
  }
  best = min(constants, key=constants.__getitem__)
  if metrics['click_error'] < constants[best]:
    return ''
  return (
    f'the head has learned nothing about position: click error {metrics["click_error"]:.3f}, '
    f'{best} {constants[best]:.3f}'
  )


def label_set_sums(logits: jax.Array, batch: Batch) -> Sums:
  """Top-1 and top-5 if several classes may be correct and not all may be predicted.

  Args:
    logits: f32[B,C].
    batch: valid_labels, class_mask, example_mask of `pipeline.label_set_batches`. An image without
      a valid label does not count.

  Returns:
    Dict of name -> (sum, count) of one device's part: top1 and, with more than five classes, top5.
  """
  logits = jnp.where(batch['class_mask'], logits, -jnp.inf)
  _, top = jax.lax.top_k(logits, min(5, logits.shape[-1]))
  hits = jnp.take_along_axis(batch['valid_labels'] & batch['class_mask'], top, axis=-1)
  counted = batch['example_mask'] * batch['valid_labels'].any(-1)
  sums: Sums = {'top1': ((hits[:, 0] * counted).sum(), counted.sum())}
  if logits.shape[-1] > 5:
    sums['top5'] = ((hits.any(-1) * counted).sum(), counted.sum())
  return sums


def mean_metrics(sums: Sums, *, image_size: int) -> dict[str, float]:
  """Divides {name: (sum, count)}; a metric whose count is 0 is left out.

  Args:
    sums: over any number of steps or batches.
    image_size: side of the model's input in pixels, to add the click error in pixels.
  """
  means = {name: float(total) / float(count) for name, (total, count) in sums.items() if count}
  if 'click_error' in means:
    means['click_error_px'] = means['click_error'] * image_size
  return means


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Average precision per class, equal to sklearn.metrics.average_precision_score.

  AP = sum over the distinct score thresholds, from high to low, of the increase in recall times the
  precision there; examples with equal scores enter together. No interpolation.

  Args:
    scores: float [N,C], higher = more likely; finite.
    labels: [N,C] of 0 and 1.

  Returns:
    f64[C]; NaN for a class without a positive example.

  Raises:
    ValueError: shapes that do not match, scores that are not finite, labels other than 0 and 1.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  if scores.ndim != 2 or scores.shape != labels.shape:
    raise ValueError(f'scores {scores.shape} and labels {labels.shape} are not both one [N,C]')
  if not np.isfinite(scores).all():
    raise ValueError('a score is NaN or infinite')
  if not np.isin(labels, (0, 1)).all():
    raise ValueError('a label is neither 0 nor 1')
  result = np.full(scores.shape[1], np.nan)
  for c in np.flatnonzero(labels.any(axis=0)):
    order = np.argsort(-scores[:, c], kind='stable')
    ranked = scores[order, c]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true_positives = np.cumsum(labels[order, c], dtype=np.float64)[last_of_tie]
    precision = true_positives / (last_of_tie + 1)
    recall = true_positives / true_positives[-1]
    result[c] = np.sum(np.diff(recall, prepend=0.0) * precision)
  return result


def average_precision_within(
  scores: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> np.ndarray:
  """`average_precision` of some of the positives of each class, as if there were no others.

  Args:
    scores, labels: as in `average_precision`.
    group: bool[N,C], the positives that count; the class's other positives are excluded: they are
      neither hits nor false positives.

  Returns:
    f64[C]; NaN for a class without a positive in the group.
  """
  result = np.full(scores.shape[1], np.nan)
  for c in range(scores.shape[1]):
    kept = (labels[:, c] == 0) | group[:, c]
    result[c] = average_precision(scores[kept, c : c + 1], labels[kept, c : c + 1])[0]
  return result


def mean_average_precision(per_class: np.ndarray) -> tuple[float, int]:
  """Mean over the classes that have a positive example, and the number of classes left out.

  Args:
    per_class: f64[C] of `average_precision`.

  Returns:
    (mAP, number of classes without positives); mAP is NaN if no class has one.
  """
  missing = np.isnan(per_class)
  mean = per_class[~missing].mean() if not missing.all() else np.nan
  return float(mean), int(missing.sum())
