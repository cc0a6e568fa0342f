"""The study: does LUAB help? Trains every arm over several seeds and compares the arms.

A run is an ordinary run in <workdir>/<arm>/seed<k>. The same command continues a study: finished
runs are kept, interrupted ones resume, and with more seeds or sweeps only the missing runs are
trained. Runs are evaluated once, after the last step, whatever `eval_every_epochs` is. The design
of the study is ours.

Sweeps (only those that config.study has values for):
  data_fractions: fractions of the training images, as a TFDS subsplit of `data.train_split`. All
    runs take as many steps and warm-up steps as a run on all images, so that the sweep compares
    numbers of images, not of steps.
  byproduct_fractions: of the images, those that keep their byproducts (`data.byproduct_fraction`).
"""

import json
import pathlib
import sys
from typing import Any

import tqdm
from ml_collections import ConfigDict

from luab_jax.data.contents import check_contents, contents
from luab_jax.errors import UserError
from luab_jax.evaluate import robustness
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import CHANGEABLE as RUN_CHANGEABLE
from luab_jax.runtime.workdir import locked, prepare_workdir
from luab_jax.tools.study import plan, statistics, tables
from luab_jax.tools.study.statistics import Interval, Runs
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from luab_jax.train.options import check_keep_best, check_options

# Keys that may change between two starts of a study: they leave finished runs valid.
CHANGEABLE = (
  *(key for key in RUN_CHANGEABLE if key not in ('num_epochs', 'total_steps', 'study.')),
  'study.seeds',
  'study.data_fractions',
  'study.byproduct_fractions',
)


def run_study(config: ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Trains the missing runs of a study, and writes study.json, study.md and the plots.

  Args:
    config: of the experiment; `config.study` says which runs there are.
    workdir: folder of the study.
  Returns:
    The content of study.json, with statistics.Interval objects.
  Raises:
    UserError: bad config, missing data, a workdir of another study, a run that fails.
  """
  workdir = pathlib.Path(workdir)
  plan.check_config(config.study)
  experiment = Experiment(config)
  runs = plan.plan_runs(config, experiment)
  for run in runs.values():  # before the first of them is trained
    check_options(run)
    check_keep_best(run, experiment.spec)
  with locked(workdir):
    prepare_workdir(workdir, config, changeable=CHANGEABLE)
    return _run_study(config, workdir, experiment, runs)


def _run_study(
  config: ConfigDict, workdir: pathlib.Path, experiment: Experiment, runs: dict[str, ConfigDict]
) -> dict[str, Any]:
  summaries = _run_all(runs, workdir, experiment.robustness)
  metrics = {folder: _run_metrics(runs[folder], summaries[folder]) for folder in runs}
  result = {
    'data': config.data.name,
    'model': config.model.name,
    'batch_size': config.batch_size,
    'total_steps': experiment.total_steps,
    'images': experiment.num_examples,
    'icon_label': config.data.icon_label if experiment.spec.multi_label else None,
    'seeds': plan.seeds(config),
    'machines': sorted({summary['machine'] for summary in summaries.values()}),
    **_compare_arms(config, metrics),
    'sweeps': {
      sweep: _compare_sweep(config, metrics, sweep) for sweep in plan.SWEEPS if config.study[sweep]
    },
  }
  if hosts.is_main_host():
    tables.write(result, workdir)
  return result


def _run_all(
  runs: dict[str, ConfigDict], workdir: pathlib.Path, prepared: robustness.Prepared
) -> dict[str, dict[str, Any]]:
  """Trains the unfinished runs of {folder: config}, and returns {folder: summary} of all."""
  summaries = {
    name: summary
    for name, config in runs.items()
    if (summary := _finished(config, workdir / name, prepared))
  }
  missing = [name for name in runs if name not in summaries]
  terminal = hosts.is_main_host() and sys.stderr.isatty()
  with tqdm.tqdm(
    total=len(runs),
    initial=len(runs) - len(missing),
    desc='study',
    unit='run',
    disable=not terminal,
    dynamic_ncols=True,
  ) as progress:
    for name in missing:
      progress.set_postfix_str(name)
      try:
        summaries[name] = _train(runs[name], workdir / name)
      except UserError as error:
        raise UserError(f'{name}: {error}') from error
      progress.update()
  return summaries


def _run_metrics(config: ConfigDict, summary: dict[str, Any]) -> dict[str, float]:
  metrics = statistics.summary_metrics(summary)
  if config.model.head == 'linear' and not config.loss.point_weight:
    # The point outputs were never trained: their error means nothing.
    metrics = {k: v for k, v in metrics.items() if not k.endswith('/click_error')}
  return metrics


def _read_summary(workdir: pathlib.Path) -> dict[str, Any] | None:
  path = workdir / 'summary.json'
  return json.loads(path.read_text(encoding='utf-8')) if path.exists() else None


def _finished(
  config: ConfigDict, workdir: pathlib.Path, prepared: robustness.Prepared
) -> dict[str, Any] | None:
  """The summary of a finished run, None if there is something left to do."""
  summary = _read_summary(workdir)
  if summary is None or summary['step'] != config.total_steps:
    return None
  prepare_workdir(workdir, config)
  check_contents(summary.get('contents', {}), contents(config.data), config.data)
  wanted = set(config.data.eval_splits) | robustness.split_names(prepared.sources)
  complete = wanted <= summary['results'].keys()
  complete &= summary.get('not_prepared', {}) == prepared.missing  # no set was prepared since
  return summary if complete else None


def _train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  summary = _read_summary(workdir)
  if summary is not None and summary['step'] == config.total_steps:
    # There are new evaluation splits.
    return loop.evaluate_only(config, workdir, verbose=False).summary
  return loop.train_and_evaluate(config, workdir, verbose=False).summary


def _arm_runs(
  config: ConfigDict, metrics: dict[str, dict[str, float]], arm: str, *sweep_and_value: Any
) -> Runs:
  """{seed: metrics} of an arm, or of an arm at a value of a sweep."""
  return {
    seed: metrics[plan.run_folder(arm, seed, *sweep_and_value)] for seed in plan.seeds(config)
  }


def _compare_arms(config: ConfigDict, metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
  """Every arm against the baseline, and luab_spatial against the other spatial arms."""
  runs = {name: _arm_runs(config, metrics, name) for name in plan.ARMS}
  arms: dict[str, dict[str, Any]] = {}
  for name, arm in plan.ARMS.items():
    arms[name] = {
      'description': arm.description,
      'point_weight': config.study[arm.weight] if arm.weight else 0.0,
      'runs': runs[name],
      'metrics': statistics.summarise(runs[name]),
    }
    if name != 'baseline':
      arms[name]['difference_to_baseline'] = statistics.subtract(runs[name], runs['baseline'])
  others = [name for name, arm in plan.ARMS.items() if arm.head == 'spatial']
  return {
    'arms': arms,
    'luab_spatial_minus': {
      other: statistics.subtract(runs['luab_spatial'], runs[other])
      for other in others
      if other != 'luab_spatial'
    },
  }


def _compare_sweep(
  config: ConfigDict, metrics: dict[str, dict[str, float]], sweep: str
) -> dict[str, Any]:
  """The arms of a sweep at each of its values, and the gain over the same head without clicks."""
  values = sorted(config.study[sweep])

  def gain(arm: str, without: str, value: float) -> dict[str, Interval]:
    # Without clicks there is one run for all byproduct fractions.
    reference = (sweep, value) if sweep == 'data_fractions' else ()
    return statistics.subtract(
      _arm_runs(config, metrics, arm, sweep, value), _arm_runs(config, metrics, without, *reference)
    )

  return {
    'values': values,
    'arms': {
      arm: [statistics.summarise(_arm_runs(config, metrics, arm, sweep, v)) for v in values]
      for arm in plan.SWEEPS[sweep]
    },
    'gain': {
      arm: [gain(arm, without, value) for value in values]
      for arm, without in plan.WITHOUT_CLICKS.items()
    },
  }
