"""Exact evaluation: every example counts once, whatever the number of devices and hosts."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from luab_jax.data import pipeline
from luab_jax.data.dataset import Batch, DatasetSpec
from luab_jax.data.rows import Rows
from luab_jax.errors import UserError
from luab_jax.evaluate import localization
from luab_jax.evaluate.metrics import (
  average_precision,
  average_precision_within,
  mean_average_precision,
  mean_metrics,
)
from luab_jax.evaluate.steps import EvalStep
from luab_jax.models import Variables
from luab_jax.models.losses import Sums
from luab_jax.runtime import hosts, parallel

# (column of the batch, its value, suffix of the metrics)
GROUPS = (
  ('size_group', 1, 'small'),
  ('size_group', 2, 'medium'),
  ('size_group', 3, 'large'),
  ('icon_group', 1, 'without_icon'),
  ('icon_group', 2, 'with_icon'),
)


def evaluate_split(
  eval_step: EvalStep,
  variables: Variables,
  data: ConfigDict,
  split: str,
  *,
  spec: DatasetSpec,
  batch_size: int,
  progress: Callable[[Iterable, int], Iterable] | None = None,
) -> dict[str, Any]:
  """Evaluates one split.

  Args:
    eval_step: pmapped `steps.make_eval_step`.
    variables: replicated Flax variables.
    data: `config.data`.
    split: TFDS split, for example 'validation' or 'train[90%:]'.
    spec: of the data set.
    batch_size: global.
    progress: function (batches, their number) -> the same batches with a progress bar.
  Returns:
    dict of metrics: `examples`, losses, top1 and top5 or mAP (with `ap_per_class`, a dict by
    class name without the classes that never occur), click_error and click_error_px where the
    split has points, points_used. Errors are means over all examples, not over batches.
    For COCO also mAP_small, mAP_medium and mAP_large by the largest object of the class in the
    image (targets.size_groups), mAP_with_icon and mAP_without_icon among annotated images, and
    how many positives_… each has; all images without the class are the negatives of each.
    Where the split has true boxes, how well the maps of `steps.localization_maps` agree with them,
    see `localization.summarise`.
  Raises:
    UserError: an unreadable record; a loss that is not finite.
  """
  batches, count = pipeline.eval_batches(
    data, spec, split, Rows(batch_size, jax.process_count(), jax.process_index()), boxes=True
  )
  totals = _Totals(localization.Localization(data.image_size, multi_label=spec.multi_label))
  for result, boxes in _results(eval_step, variables, batches, count, progress):
    totals.add(result, boxes)
  loss, examples = totals.sums['class_loss']
  if not np.isfinite(loss):
    raise UserError(
      f'the loss on {split} is {loss}: training has diverged; go back to an earlier checkpoint'
    )
  metrics = {'examples': int(examples), **mean_metrics(totals.sums, image_size=data.image_size)}
  if spec.multi_label:
    metrics |= _mean_average_precision(totals.scores, spec.class_names)
  counts = hosts.sum_over_hosts(totals.localization.counts)
  return metrics | localization.summarise(counts, multi_label=spec.multi_label)


def metric_names(head: str, *, num_classes: int, multi_label: bool) -> list[str]:
  """The fractional metrics that `evaluate_split` may return: some need points, boxes or positives.

  Args:
    head: `config.model.head`.
    num_classes, multi_label: of the data set.
  """
  kinds = ('cam', 'attention') if head == 'spatial' else ('cam',)
  if multi_label:
    accuracy = ['mAP', *(f'mAP_{name}' for _, _, name in GROUPS)]
  else:
    accuracy = ['top1', *(['top5'] if num_classes > 5 else [])]
  located = ['maxboxacc_v2', 'pointing'] + ([] if multi_label else ['top1_loc'])
  points = ['click_error', 'click_error_px', 'points_used']
  boxes = [f'{name}_{kind}' for name in located for kind in kinds]
  return [*accuracy, *points, *boxes, 'class_loss', 'point_loss']


def _results(
  eval_step: EvalStep,
  variables: Variables,
  batches: Iterable[Batch],
  count: int,
  progress: Callable[[Iterable, int], Iterable] | None,
) -> Iterator[tuple[tuple[Sums, dict[str, jax.Array], dict[str, Any]], Batch]]:
  """Yields what the step returns for each batch, and its boxes, one batch late.

  So the device computes a batch while the host counts the one before.
  """
  boxes: collections.deque[Batch] = collections.deque()  # of the batches in flight
  sharded: Iterable = parallel.prefetch(_without_boxes(iter(batches), boxes))
  previous = None
  for batch in progress(sharded, count) if progress else sharded:
    result = eval_step(variables, batch), boxes.popleft()
    if previous:
      yield previous
    previous = result
  if previous:
    yield previous


class _Totals:
  """What the batches of a split add up to on the host.

  Attributes:
    sums: in float64; a float32 running sum over a large set would lose examples.
    scores: of all examples, batch by batch; empty dicts where an image has one label.
    localization: of this host's examples.
  """

  def __init__(self, counter: localization.Localization):
    self.sums: Sums = {}
    self.scores: list[dict[str, np.ndarray]] = []
    self.localization = counter

  def add(self, result: tuple[Sums, dict[str, jax.Array], dict[str, Any]], boxes: Batch) -> None:
    """Adds what the eval step returned for a batch, still on the device, and its boxes."""
    sums, scores, local = result
    sums, scores = parallel.fetch((sums, scores))
    self.scores.append(scores)
    if boxes['box_mask'].any():  # else the maps may stay on the device
      local = parallel.fetch_examples(local)
    self.localization.add(local, boxes)
    for name, (total, count) in sums.items():
      before = self.sums.get(name, (0.0, 0.0))
      self.sums[name] = (before[0] + float(total), before[1] + float(count))


def _without_boxes(batches: Iterator[Batch], boxes: collections.deque[Batch]) -> Iterator[Batch]:
  """Yields the batches without their boxes, which are appended to `boxes`."""
  for batch in batches:
    names = [name for name in batch if name.startswith('box')]
    boxes.append({name: batch.pop(name) for name in names})
    boxes[-1]['example_mask'] = batch['example_mask']
    yield batch


def _mean_average_precision(
  scores: list[dict[str, np.ndarray]], class_names: list[str]
) -> dict[str, Any]:
  flat = {
    name: np.concatenate([s[name].reshape(-1, *s[name].shape[2:]) for s in scores])
    for name in scores[0]
  }
  real = flat['mask'] > 0
  per_class = average_precision(flat['score'][real], flat['label'][real])
  mean, absent = mean_average_precision(per_class)
  grouped: dict[str, float] = {}
  for column, group, name in GROUPS:
    if column in flat:
      positive = (flat[column] == group) & (flat['label'] > 0)
      grouped |= _within(flat['score'][real], flat['label'][real], positive[real], name)
  return {
    'mAP': mean,
    **grouped,
    'classes_without_positives': absent,
    'ap_per_class': {
      name: float(ap) for name, ap in zip(class_names, per_class, strict=True) if not np.isnan(ap)
    },
  }


def _within(
  score: np.ndarray, label: np.ndarray, positive: np.ndarray, name: str
) -> dict[str, float]:
  """mAP over the classes that have positives in the group; {} if no class has any."""
  if not positive.any():
    return {}
  mean, _ = mean_average_precision(average_precision_within(score, label, positive))
  return {f'mAP_{name}': mean, f'positives_{name}': int(positive.sum())}
