"""Exact evaluation: every example counts once, whatever the number of devices and hosts."""

import collections

import jax
import numpy as np

from luab_jax.data import pipeline
from luab_jax.errors import UserError
from luab_jax.evaluate import localization
from luab_jax.evaluate.metrics import (
  average_precision,
  average_precision_within,
  mean_average_precision,
)
from luab_jax.runtime import hosts, parallel
from luab_jax.train.step import mean_metrics

# (column of the batch, its value, what the figures call it)
GROUPS = (
  ('size_group', 1, 'small'),
  ('size_group', 2, 'medium'),
  ('size_group', 3, 'large'),
  ('icon_group', 1, 'without_icon'),
  ('icon_group', 2, 'with_icon'),
)


def evaluate_split(eval_step, variables, data, split, *, spec, batch_size, progress=None):
  """Evaluates one split.

  Args:
    eval_step: pmapped `step.make_eval_step`.
    variables: replicated Flax variables.
    data: `config.data`.
    split: TFDS split, for example 'validation' or 'train[90%:]'.
    spec: `pipeline.DatasetSpec`.
    batch_size: global.
    progress: wraps the iterator of batches (a tqdm), or None.
  Returns:
    dict of figures: `examples`, losses, top1 and top5 or mAP (with `ap_per_class`, a dict by
    class name without the classes that never occur), click_error and click_error_px where the
    split has points, points_used. Errors are means over all examples, not over batches.
    For COCO also mAP_small, mAP_medium and mAP_large by the largest object of the class in the
    image (targets.size_groups), mAP_with_icon and mAP_without_icon among annotated images, and
    how many positives_… each has; all images without the class are the negatives of each.
    Where the split has true boxes, how well the maps of `step.place_maps` show them, as in
    `localization.figures`.
  """
  batches, count = pipeline.eval_batches(
    data,
    split,
    batch_size=batch_size,
    num_hosts=jax.process_count(),
    host=jax.process_index(),
    boxes=True,
  )
  boxes = collections.deque()  # of the batches on their way to the devices, which need none
  iterator = parallel.prefetch(_without_boxes(batches.as_numpy_iterator(), boxes))
  if progress:
    iterator = progress(iterator, total=count)
  # Host sums in float64: a float32 running sum over a large set would lose examples.
  totals, scores = {}, []
  places = localization.Localization(data.image_size, multi_label=spec.multi_label)
  for batch in iterator:
    # Fetched one batch late, so that the device computes meanwhile.
    scores.append((eval_step(variables, batch), boxes.popleft()))
    if len(scores) > 1:
      _collect(totals, scores, -2, places)
  _collect(totals, scores, -1, places)
  if not np.isfinite(totals['class_loss'][0]):
    raise UserError(
      f'the loss on {split} is {totals["class_loss"][0]}: the parameters are not '
      'those of a run that went well; go back to an earlier checkpoint'
    )
  figures = mean_metrics(totals, image_size=data.image_size)
  figures = {'examples': int(totals['class_loss'][1]), **figures}
  if spec.multi_label:
    figures |= _mean_average_precision(scores, spec.class_names)
  counts = hosts.sum_over_hosts(places.counts)
  return figures | localization.figures(counts, multi_label=spec.multi_label)


def _without_boxes(batches, boxes):
  """Yields the batches without their boxes, which are appended to `boxes`."""
  for batch in batches:
    names = [name for name in batch if name.startswith('box')]
    boxes.append({name: batch.pop(name) for name in names})
    boxes[-1]['example_mask'] = batch['example_mask']
    yield batch


def _collect(totals, results, index, places):
  """Replaces a device result by the scores in it, its sums added to `totals`, its maps counted."""
  (sums, score, local), boxes = results[index]
  sums, results[index] = parallel.fetch((sums, score))
  if boxes['box_mask'].any():  # else the maps may stay where they are
    local = parallel.fetch_examples(local)
  places.add(local, boxes)
  for name, (total, count) in sums.items():
    before = totals.get(name, (0.0, 0.0))
    totals[name] = (before[0] + float(total), before[1] + float(count))


def _mean_average_precision(scores, class_names):
  flat = {
    name: np.concatenate([s[name].reshape(-1, *s[name].shape[2:]) for s in scores])
    for name in scores[0]
  }
  real = flat['mask'] > 0
  per_class = average_precision(flat['score'][real], flat['label'][real])
  mean, absent = mean_average_precision(per_class)
  grouped = {}
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


def _within(score, label, positive, name):
  """mAP over the classes that have positives in the group; nothing where no class has one."""
  if not positive.any():
    return {}
  mean, _ = mean_average_precision(average_precision_within(score, label, positive))
  return {f'mAP_{name}': mean, f'positives_{name}': int(positive.sum())}
