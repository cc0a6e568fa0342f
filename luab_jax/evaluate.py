"""Exact evaluation: every example counts once, whatever the number of devices and hosts."""

import jax
import numpy as np

from luab_jax import input_pipeline, parallel
from luab_jax.metrics import average_precision, mean_average_precision
from luab_jax.step import mean_metrics


def evaluate_split(eval_step, variables, data, split, *, spec, batch_size, progress=None):
  """Evaluates one split.

  Args:
    eval_step: pmapped `step.make_eval_step`.
    variables: replicated Flax variables.
    data: `config.data`.
    split: TFDS split, for example 'validation' or 'train[90%:]'.
    spec: `input_pipeline.DatasetSpec`.
    batch_size: global.
    progress: wraps the iterator of batches (a tqdm), or None.
  Returns:
    dict of figures: `examples`, losses, top1 and top5 or mAP (with `ap_per_class`, a dict by
    class name without the classes that never occur), click_error and click_error_px where the
    split has points, points_used. Errors are means over all examples, not over batches.
  """
  batches, count = input_pipeline.eval_batches(
    data, split, batch_size=batch_size, num_hosts=jax.process_count(), host=jax.process_index()
  )
  iterator = parallel.prefetch(batches.as_numpy_iterator())
  if progress:
    iterator = progress(iterator, total=count)
  # Host sums in float64: a float32 running sum over a large set would lose examples.
  totals, scores = {}, []
  for batch in iterator:
    sums, score = eval_step(variables, batch)
    # Fetched one batch late, so that the device computes meanwhile.
    scores.append((sums, score))
    if len(scores) > 1:
      _collect(totals, scores, -2)
  _collect(totals, scores, -1)
  figures = mean_metrics(totals, image_size=data.image_size)
  figures = {'examples': int(totals['class_loss'][1]), **figures}
  if spec.multi_label:
    figures |= _mean_average_precision([score for _, score in scores], spec.class_names)
  return figures


def _collect(totals, results, index):
  """Replaces a device result by its host copy and adds its sums to `totals`."""
  sums, score = parallel.fetch(results[index])
  results[index] = (None, score)
  for name, (total, count) in sums.items():
    before = totals.get(name, (0.0, 0.0))
    totals[name] = (before[0] + float(total), before[1] + float(count))


def _mean_average_precision(scores, class_names):
  flat = {
    name: np.concatenate([s[name].reshape(-1, *s[name].shape[2:]) for s in scores])
    for name in ('score', 'label', 'mask')
  }
  real = flat['mask'] > 0
  per_class = average_precision(flat['score'][real], flat['label'][real])
  mean, absent = mean_average_precision(per_class)
  return {
    'mAP': mean,
    'classes_without_positives': absent,
    'ap_per_class': {
      name: float(ap) for name, ap in zip(class_names, per_class, strict=True) if not np.isnan(ap)
    },
  }
