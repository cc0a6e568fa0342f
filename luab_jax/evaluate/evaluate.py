"""Exact evaluation: every example counts once, whatever the number of devices and hosts."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from luab_jax.data.dataset import Batch
from luab_jax.data.pipeline import EvalSplits
from luab_jax.errors import UserError
from luab_jax.evaluate import alignment
from luab_jax.evaluate.localization import Localization
from luab_jax.evaluate.metrics import (
  average_precision,
  average_precision_within,
  mean_average_precision,
  mean_metrics,
)
from luab_jax.evaluate.outcomes import Columns
from luab_jax.evaluate.steps import EvalStep, LocalizationStep
from luab_jax.models import Variables
from luab_jax.models.losses import Sums
from luab_jax.runtime import parallel

Progress = Callable[[Iterable, int], Iterable]  # (iterable, its length) -> the same iterable
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
  splits: EvalSplits,
  split: str,
  *,
  progress: Progress | None = None,
) -> tuple[dict[str, Any], Columns]:
  """Evaluates one split on the centre crops of its images.

  Args:
    eval_step: pmapped `steps.make_eval_step`.
    variables: replicated Flax variables.
    splits: EvalSplits of the data set.
    split: TFDS split, for example 'validation' or 'train[90%:]'.
    progress: function (batches, their number) -> the same batches with a progress bar.
  Returns:
    (metrics, outcomes). Metrics are `examples`, losses, top1 and top5 or mAP (with `ap_per_class`,
    a dict by class name without the classes that never occur) and points_used; if the split has
    points, also click_error, click_error_px, click_error_centre and click_error_mean, see
    `metrics.batch_sums`. They are means over all examples, not over batches.
    For COCO also mAP_small, mAP_medium and mAP_large by the largest object of the class in the
    image (targets.size_groups), mAP_with_icon and mAP_without_icon among annotated images, and the
    number of positives of each, positives_…; the negatives are always all images without the class.
    Outcomes of the host's examples in file order: file_name bytes[N] and `example_outcomes` [N].
  Raises:
    UserError: a record cannot be read, or the loss is not finite.
  """
  batches, count = splits.batches(split, names=True)
  names: list[np.ndarray] = []  # file names, b'' for padding
  outcomes = []
  all_sums: Sums = {}
  all_scores = []
  inputs = _with_mean_point(iter(batches), splits.mean_point, names)
  for *result, by_example in _results(eval_step, variables, inputs, count, progress):
    sums, scores = parallel.fetch(result)
    all_scores.append(scores)
    outcomes.append(parallel.fetch_examples(by_example))
    _add(all_sums, sums)
  loss, examples = all_sums['class_loss']
  if not np.isfinite(loss):
    raise UserError(
      f'the loss on {split} is {loss}: training has diverged; go back to an earlier checkpoint'
    )
  metrics = {'examples': int(examples), **mean_metrics(all_sums, image_size=splits.data.image_size)}
  if splits.spec.multi_label:
    metrics |= _mean_average_precision(all_scores, splits.spec.class_names)
  file_name = np.concatenate(names).astype(np.bytes_)
  columns = {name: np.concatenate([rows[name] for rows in outcomes]) for name in outcomes[0]}
  real = file_name != b''
  return metrics, {k: column[real] for k, column in {'file_name': file_name, **columns}.items()}


def _add(all_sums: Sums, sums: Sums) -> None:
  """Adds in float64: a float32 running sum over a large set would lose examples."""
  for name, (total, number) in sums.items():
    before = all_sums.get(name, (0.0, 0.0))
    all_sums[name] = (before[0] + float(total), before[1] + float(number))


def align_splits(
  model: Any, variables: Variables, splits: EvalSplits, *, progress: Callable[..., Iterable]
) -> dict[str, dict[str, float]]:
  """Compares a model's maps with people's heat maps on `data.eval_splits`.

  The view is the whole image, see alignment.py.

  Args:
    model: Flax module.
    variables, splits: as in `evaluate_split`.
    progress: as in `localize_splits`.
  Returns:
    {split: spearman_KIND and alignment_KIND}; {} without heat maps.
  Raises:
    UserError: a record cannot be read.
  """
  if not splits.spec.has_heatmap:
    return {}
  step, found = parallel.map_step(alignment.make_alignment_step(model)), {}
  for name, split in splits.data.eval_splits.items():
    batches, count = splits.batches(split, whole=True)
    bar = functools.partial(progress, name=f'{name}, heat maps')
    sums: Sums = {}
    for result in _results(step, variables, iter(batches), count, bar):
      _add(sums, parallel.fetch(result))
    means = {key: float(total) / float(number) for key, (total, number) in sums.items() if number}
    found[name] = means | alignment.as_share(means)
  return found


def localize_splits(
  localization_step: LocalizationStep,
  variables: Variables,
  splits: EvalSplits,
  *,
  pool: ThreadPoolExecutor,
  max_images: int | None,
  progress: Callable[..., Iterable],
) -> dict[str, Localization]:
  """Starts measuring how well a model's maps agree with the boxes of `data.eval_splits`.

  The view is the whole image, see localization.py. When this returns, the devices are done; the
  pool continues until `Localization.metrics` has waited for it.

  Args:
    localization_step: pmapped `steps.make_localization_step`.
    variables, splits: as in `evaluate_split`.
    pool: of `localization.thread_pool`.
    max_images: use only this many images of each split, see `EvalSplits.batches`; None: all, and
      also measure the logarithm of the attention map.
    progress: function (batches, their number, name of the bar) -> the same batches.
  Returns:
    {split: Localization}; {} without boxes.
  Raises:
    UserError: a record cannot be read.
  """
  if max_images == 0 or not splits.has_boxes:
    return {}
  found = {}
  for name, split in splits.data.eval_splits.items():
    batches, count = splits.batches(split, boxes=True, whole=True, max_examples=max_images)
    boxes: collections.deque[Batch] = collections.deque()  # of the batches in flight
    found[name] = Localization(
      pool,
      splits.data.image_size,
      multi_label=splits.spec.multi_label,
      log_attention=max_images is None,
    )
    bar = functools.partial(progress, name=f'{name}, boxes')
    inputs = _without_boxes(iter(batches), boxes)
    for outputs in _results(localization_step, variables, inputs, count, bar):
      found[name].add(parallel.fetch_examples(outputs), boxes.popleft())
  return found


def metric_names(head: str, *, num_classes: int, multi_label: bool, map_loss: str) -> list[str]:
  """The float-valued metrics of an evaluation, some of which need points, boxes or positives.

  Args:
    head, map_loss: `config.model.head`, `config.loss.map_loss`.
    num_classes, multi_label: of the data set.
  """
  kinds = ('cam', 'attention') if head == 'spatial' else ('cam',)
  if multi_label:
    accuracy = ['mAP', *(f'mAP_{name}' for _, _, name in GROUPS)]
  else:
    accuracy = ['top1', *(['top5'] if num_classes > 5 else [])]
  located = ['maxboxacc_v2', 'epg', 'pointing'] + ([] if multi_label else ['top1_loc'])
  points = [f'click_error{of}' for of in ('', '_px', '_centre', '_mean')] + ['points_used']
  boxes = [f'{name}_{kind}' for name in located for kind in kinds]
  map_losses = [] if map_loss == 'none' else ['map_loss']
  return [*accuracy, *points, *boxes, 'class_loss', 'point_loss', *map_losses]


def _results(
  step: Callable[[Variables, Batch], Any],
  variables: Variables,
  batches: Iterator[Batch],
  count: int,
  progress: Progress | None,
) -> Iterator[Any]:
  """Yields what the step returns for each batch, one batch late.

  The device thus computes a batch while the host processes the previous one.
  """
  sharded: Iterable = parallel.prefetch(batches)
  results = (
    step(variables, batch) for batch in (progress(sharded, count) if progress else sharded)
  )
  previous = next(results)
  for result in results:
    yield previous
    previous = result
  yield previous


def _with_mean_point(
  batches: Iterator[Batch], mean_point: np.ndarray, names: list[np.ndarray]
) -> Iterator[Batch]:
  """Yields the batches with the mean point; moves their file names to `names`."""
  for batch in batches:
    names.append(batch.pop('file_name'))
    yield batch | {'mean_point': np.broadcast_to(mean_point, batch['point'].shape)}


def _without_boxes(batches: Iterator[Batch], boxes: collections.deque[Batch]) -> Iterator[Batch]:
  """Yields images and labels of the batches; appends their boxes to `boxes`."""
  for batch in batches:
    names = [name for name in batch if name.startswith('box')]
    boxes.append({name: batch[name] for name in (*names, 'example_mask')})
    yield {name: batch[name] for name in ('image', 'label')}


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
