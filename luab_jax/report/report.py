"""report.html of a run: one self-contained file that opens from disk.

Images are embedded, there are no scripts, and all text is escaped. Only the main host writes, and
nothing here is a collective operation.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from luab_jax.evaluate import evidence
from luab_jax.evaluate.metrics import learned_no_place
from luab_jax.evaluate.robustness import Metrics
from luab_jax.report import captions, charts, data_page, html, samples
from luab_jax.report.html import Section, Table
from luab_jax.report.predictions_page import prediction_sections
from luab_jax.report.robustness_page import robustness_results, robustness_sections
from luab_jax.runtime import hosts
from luab_jax.runtime.metric_writers import MetricWriters
from luab_jax.train import metrics_file
from luab_jax.train.loop import Run

# Meaning of the metrics, in the order of the rows; others follow without a description.
DESCRIPTIONS = {
  'examples': 'images evaluated',
  'top1': 'fraction of images whose top class is correct',
  'top5': 'fraction of images whose correct class is among the top five',
  'mAP': 'mean average precision over the classes',
  'mAP_small': 'mAP of classes whose largest object in the image is below 32 × 32 px',
  'mAP_medium': 'mAP of classes whose largest object is between 32 × 32 and 96 × 96 px',
  'mAP_large': 'mAP of classes whose largest object is above 96 × 96 px',
  'mAP_with_icon': 'mAP, counting only the classes of an image that have an icon',
  'mAP_without_icon': 'mAP, counting only the classes of an image that were left without an icon',
  'click_error': 'mean distance of predicted and recorded points, as a fraction of the image side',
  'click_error_px': 'mean distance of predicted and recorded points in pixels of the model input',
  'click_error_centre': 'click error of always predicting the centre: the head has to be better',
  'click_error_mean': 'click error of always predicting the mean point of the training set',
  'maxboxacc_v2_attention': 'localisation by the attention map: MaxBoxAccV2, 1 is best',
  'maxboxacc_v2_log_attention': 'the same by the logarithm of the attention map',
  'maxboxacc_v2_cam': 'localisation by the class activation map: MaxBoxAccV2, 1 is best',
  'top1_loc_attention': 'fraction of images with the correct class and an attention box of IoU 0.5',
  'top1_loc_log_attention': 'the same for the box of the logarithm of the attention map',
  'top1_loc_cam': 'the same for the box of the class activation map',
  'epg_attention': 'share of the attention map inside the true boxes; high also for a map that has '
  'collapsed to one cell: read it with MaxBoxAccV2',
  'epg_cam': 'share of the positive part of the class activation map inside the true boxes',
  'pointing_attention': 'fraction of images where the attention map peaks on the object',
  'pointing_cam': 'fraction of images where the class activation map peaks on the object',
  'class_loss': 'cross-entropy',
  'point_loss': 'point regression loss',
  'map_loss': 'loss of the maps at the recorded points',
  'points_used': 'fraction of point slots with a recorded point (0: no clicks on these images)',
  'images_with_boxes': 'images that localisation is measured on',
  'images_without_boxes': 'images without a ground-truth box in the view, not in localisation',
  'boxes_left_out': 'boxes beyond the first 100 of an image, not in localisation',
  'box_targets': '(image, class) pairs that localisation is measured on',
  'classes_without_positives': 'classes without any image, not in mAP',
  **{
    f'positives_{group}': f'positive (image, class) pairs in mAP_{group}'
    for group in ('small', 'medium', 'large', 'with_icon', 'without_icon')
  },
}
CURVES = {
  'loss': 'Total training loss',
  'class_loss': 'Classification loss',
  'top1': 'Top-1 accuracy',
  'mAP': 'Mean average precision',
  'click_error': 'Click error (fraction of the image side)',
  'point_loss': 'Point loss (unweighted)',
  'map_loss': 'Map loss (unweighted)',
}


def write_report(
  run: Run, workdir: pathlib.Path, writers: MetricWriters | None = None
) -> pathlib.Path | None:
  """Writes `<workdir>/report.html` of a finished or evaluated run.

  Args:
    run: the run, with `report_images` images per grid.
    workdir: its folder; metrics.jsonl is read.
    writers: log the prediction images too.
  Returns:
    Path of the page; None on other than the main host, or where report_images is 0.
  Raises:
    UserError: an image that cannot be read, a folder that cannot be written.
  """
  config, spec, summary = run.experiment.config, run.experiment.spec, run.summary
  count = config.report_images
  if not count or not hosts.is_main_host():
    return None
  sets = config.robustness.sets
  shifted = robustness_results(summary['results'], sets)
  results = {name: metrics for name, metrics in summary['results'].items() if name not in shifted}
  num_samples = data_page.NUM_SAMPLES
  train = samples.training_examples(config, num_samples, count)
  predicted = prediction_sections(run, results, num_samples)
  if writers and predicted:
    writers.images(summary['step'], 'predictions', predicted[0].images)
  return html.write(
    workdir / 'report.html',
    title=f'Report: {workdir.resolve().name}',
    subtitle=f'{captions.describe_run(config, spec)}; step {summary["step"]:,} of '
    f'{summary["total_steps"]:,}; {summary["parameters"]:,} parameters; on {summary["machine"]}.',
    tiles=_tiles(results),
    sections=[
      _results_section(results, evidence.caveat(config.loss, run.experiment.splits)),
      *robustness_sections(shifted, summary['not_prepared'], sets),
      _curves_section(metrics_file.read_lines(workdir), config.data.eval_splits),
      *predicted,
      *data_page.training_sections(train, spec, config, count, results),
      data_page.config_section(config, summary),
    ],
  )


def _tiles(results: Mapping[str, Metrics]) -> list[tuple[str, str]]:
  formats = {'top1': ('top-1', '.1%'), 'mAP': ('mAP', '.1%'), 'click_error': ('click error', '.3f')}
  return [
    (f'{label}, {name}', format(metrics[key], form))
    for name, metrics in results.items()
    for key, (label, form) in formats.items()
    if key in metrics
  ]


def _results_section(results: Mapping[str, Metrics], caveat: str) -> Section:
  scalars: dict[str, dict] = {}
  collapsed = []
  for name, metrics in results.items():
    for key, value in metrics.items():
      if isinstance(value, dict):
        rows = [[part, _format(v)] for part, v in value.items()]
        collapsed.append(Table(['', 'value'], rows, f'{name}: {key}'))
      else:
        scalars.setdefault(key, {})[name] = value
  keys = [key for key in DESCRIPTIONS if key in scalars]
  keys += sorted(scalars.keys() - DESCRIPTIONS.keys())
  rows = [
    [key, *(_format(scalars[key].get(name)) for name in results), DESCRIPTIONS.get(key, '')]
    for key in keys
  ]
  return Section(
    'Results',
    [
      'Every image of a split counts once. summary.json has the same metrics.',
      *(f'{name}: {text}.' for name, m in results.items() if (text := learned_no_place(m))),
      *([f'{caveat[0].upper()}{caveat[1:]}.'] if caveat else []),
    ],
    tables=[Table(['', *results, 'description'], rows)],
    collapsed=collapsed,
  )


def _format(value: float | int | str | None) -> str:
  if value is None:
    return '–'
  if isinstance(value, float):
    return f'{value:.4f}'
  return f'{value:,}' if isinstance(value, int) else str(value)


def _curves_section(lines: Iterable[Mapping[str, Any]], splits: Iterable[str]) -> Section:
  curves: dict[str, dict] = {key: {} for key in CURVES}
  for line in lines:
    if line['split'] in ('train', *splits):
      for key in CURVES:
        if np.isfinite(line.get(key, np.nan)):
          curves[key].setdefault(line['split'], []).append((line['step'], line[key]))
  images = [charts.curves(CURVES[key], values) for key, values in curves.items() if values]
  text = (
    'Training values are means over the steps since the previous point, on augmented images. '
    'Evaluation values cover whole splits.'
  )
  return Section(
    'Curves', [text if images else 'No steps logged yet.'], images=images, layout='charts'
  )
