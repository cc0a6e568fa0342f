"""report.html of a run: one self-contained file that opens from disk.

Images are embedded, there are no scripts, and all text is escaped. Only the main host writes, and
nothing here is a collective operation.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from luab_jax.evaluate import evidence
from luab_jax.report import captions, charts, data_page, html, samples
from luab_jax.report.html import Section
from luab_jax.report.predictions_page import prediction_sections
from luab_jax.report.results import class_sections, results_section, tiles
from luab_jax.report.robustness_page import robustness_results, robustness_sections
from luab_jax.runtime import hosts
from luab_jax.runtime.metric_writers import MetricWriters
from luab_jax.train import metrics_file
from luab_jax.train.loop import Run

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
    writers: they also get the prediction images.
  Returns:
    Path of the page; None on all but the main host, or if report_images is 0.
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
    tiles=tiles(results),
    sections=[
      results_section(results, evidence.caveat(config.loss, run.experiment.splits)),
      *class_sections(run.experiment.outcomes, spec.class_names),
      *robustness_sections(shifted, summary['not_prepared'], sets),
      _curves_section(metrics_file.read_lines(workdir), config.data.eval_splits),
      *predicted,
      *data_page.training_sections(train, spec, config, count, results),
      data_page.config_section(config, summary),
    ],
  )


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
