"""Output at the end of a run: report.html, and the main results on the console."""

import os
import pathlib
import sys
import traceback

import numpy as np
from ml_collections import ConfigDict

from luab_jax.evaluate.metrics import learned_no_place
from luab_jax.report.data_page import first_images
from luab_jax.report.report import write_report
from luab_jax.runtime import hosts
from luab_jax.runtime.metric_writers import MetricWriters
from luab_jax.train import loop
from luab_jax.train.loop import Run

_CONSOLE_METRICS = (
  *('top1', 'mAP', 'click_error', 'click_error_centre', 'click_error_mean'),
  *('mCE', 'bg_gap', 'challenge'),
)


def train_and_report(config: ConfigDict, workdir: str | os.PathLike) -> Run:
  """Runs `loop.train_and_evaluate` and writes report.html at the end."""
  return loop.train_and_evaluate(config, workdir, draw_batch=first_images, draw_report=draw_run)


def evaluate_and_report(config: ConfigDict, workdir: str | os.PathLike) -> Run:
  """Runs `loop.evaluate_only` and writes report.html at the end."""
  return loop.evaluate_only(config, workdir, draw_report=draw_run)


def draw_run(run: Run, workdir: pathlib.Path, writers: MetricWriters) -> pathlib.Path | None:
  """Writes report.html, prints the main results, and returns the path of the page.

  The path is None on all but the main host, if report_images is 0, or if the report fails, which
  prints a line and does not fail the run.
  """
  try:
    page = write_report(run, workdir, writers)
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(
      f'No report: {type(error).__name__}: {" ".join(str(error).split())} '
      f'({pathlib.Path(place.filename).name}:{place.lineno}). The run itself is complete; '
      '--mode=eval tries again',
      file=sys.stderr,
    )
    page = None
  if hosts.is_main_host():
    _print_results(run.summary, workdir, page)
  return page


def _print_results(summary: dict, workdir: pathlib.Path, page: pathlib.Path | None) -> None:
  """Prints metrics, warnings, missing sets, and where to find the report, the files and curves."""
  splits = []
  for split, metrics in summary['results'].items():
    numbers = [
      f'{name} {metrics[name]:.3f}'
      for name in _CONSOLE_METRICS
      if not np.isnan(metrics.get(name, np.nan))
    ]
    splits.append(f'{split}: {", ".join(numbers)}')
  print(f'Step {summary["step"]}: ' + '; '.join(splits))
  for split, metrics in summary['results'].items():
    if sentence := learned_no_place(metrics):
      print(f'{split}: {sentence}')
  for name, remedy in summary['not_prepared'].items():
    print(f'Not prepared: {name}: {remedy}')
  opened = f'Open {page} for images; ' if page else ''
  print(f'{opened}metrics: {workdir}/summary.json, all steps: {workdir}/metrics.jsonl')
  print(f'Curves: tensorboard --logdir {workdir}/tensorboard; checkpoints: {workdir}/checkpoints')
