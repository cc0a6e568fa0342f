"""The study: do clicks help? Trains every arm over several seeds and compares the arms.

A run is an ordinary run in <workdir>/<arm>/seed<k>. The same command continues a study: finished
runs are kept, interrupted ones resume, and with more seeds, arms or sweeps only the missing runs
are trained. A finished run is its config.json, summary.json and outcomes.npz: copied from another
workdir or machine, it counts as well. Runs are evaluated once, after the last step, whatever
`eval_every_epochs` is. The design of the study is our own.

Sweeps (only those that config.study has values for):
  data_fractions: fractions of the training images, as a TFDS subsplit of `data.train_split`. All
    runs take as many steps and warm-up steps as a run on all images, so that the sweep compares
    numbers of images, not of steps.
  byproduct_fractions: fractions of the images that keep their byproducts
    (`data.byproduct_fraction`).
"""

import json
import pathlib
import sys
from typing import Any

import tqdm
from ml_collections import ConfigDict

from luab_jax.data.contents import Contents, check_contents, contents
from luab_jax.errors import UserError
from luab_jax.evaluate import outcomes, robustness
from luab_jax.models.losses import check_loss
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import CHANGEABLE as RUN_CHANGEABLE
from luab_jax.runtime.workdir import locked, prepare_workdir
from luab_jax.tools.study import comparisons, duration, intervals, looks, output, page, plan
from luab_jax.tools.study.outcomes import Outcomes
from luab_jax.tools.study.verdicts import verdicts
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from luab_jax.train.options import check_keep_best, check_options

# Keys that may change between two starts of a study: they leave finished runs valid.
CHANGEABLE = (
  *(key for key in RUN_CHANGEABLE if key not in ('num_epochs', 'total_steps', 'study.')),
  'seed',
  'study.seeds',
  'study.arms',
  'study.unit',
  'study.data_fractions',
  'study.byproduct_fractions',
)


def run_study(config: ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Trains the missing runs of a study, and writes study.json, study.md, study.html and the plots.

  Args:
    config: config of the experiment; `config.study` defines the runs.
    workdir: folder of the study.
  Returns:
    The content of study.json, with intervals.Interval objects; {} on hosts other than the main one.
  Raises:
    UserError: bad config, missing data, the workdir of another study, or a run that fails.
  """
  workdir = pathlib.Path(workdir)
  plan.check_config(config)
  experiment = Experiment(config)
  spec = experiment.spec
  if spec.num_classes == 1 and not spec.multi_label:
    raise UserError(
      f'{config.data.name} in {config.data.data_dir} has a single class: every arm is always '
      'right, so there is nothing to compare'
    )
  runs = plan.plan_runs(config, experiment)
  for folder, run in runs.items():  # before the first of them is trained
    try:
      check_options(run)
      check_loss(run.loss, multi_label=spec.multi_label)
      check_keep_best(run, spec)
    except UserError as error:
      arm = pathlib.PurePath(folder).parent.name
      raise UserError(f'arm {arm}: {error} (study.arms selects arms)') from error
  with locked(workdir):
    prepare_workdir(workdir, config, changeable=CHANGEABLE)
    return _run_study(config, workdir, experiment, runs)


def _run_study(
  config: ConfigDict, workdir: pathlib.Path, experiment: Experiment, runs: dict[str, ConfigDict]
) -> dict[str, Any]:
  summaries = _run_all(runs, workdir, experiment.robustness, contents(config.data))
  if not hosts.is_main_host():
    return {}  # the files of the runs may be half written
  result = collect(config, workdir, experiment, runs, summaries)
  output.write(result, workdir)
  split = output.hardest_split(result)
  path = page.write(result, workdir, looks.draw_looks(config, workdir, split), split)
  print(f'Open {path}; tables: {workdir}/study.md, numbers: {workdir}/study.json')
  return result


def collect(
  config: ConfigDict,
  workdir: pathlib.Path,
  experiment: Experiment,
  runs: dict[str, ConfigDict],
  summaries: dict[str, dict[str, Any]],
) -> dict[str, Any]:
  """The content of study.json.

  Args:
    config, workdir, experiment: those of the study.
    runs, summaries: {folder: config}, {folder: content of summary.json}.
  """
  found = Outcomes(runs, summaries, workdir, config.study.unit)
  result = {
    'data': config.data.name,
    'networks': plan.networks(config),
    'batch_size': config.batch_size,
    'total_steps': experiment.total_steps,
    'images': experiment.num_examples,
    'splits': experiment.splits.num_examples(),
    'icon_label': config.data.icon_label if experiment.spec.multi_label else None,
    'map_loss': config.study.map_loss,
    'seeds': plan.seeds(config),
    'machines': sorted({summary['machine'] for summary in summaries.values()}),
    'jax': sorted({summary['versions']['jax'] for summary in summaries.values()}),
    'bootstrap': {
      'draws': intervals.DRAWS,
      'seed': intervals.SEED,
      'confidence': intervals.CONFIDENCE,
      'unit': config.study.unit,
    },
    **comparisons.compare(config, found),
    'sweeps': {
      sweep: comparisons.compare_sweep(config, found, sweep)
      for sweep in plan.SWEEPS
      if config.study[sweep]
    },
  }
  result['verdicts'] = verdicts(result)
  return result


def _run_all(
  runs: dict[str, ConfigDict], workdir: pathlib.Path, prepared: robustness.Prepared, found: Contents
) -> dict[str, dict[str, Any]]:
  """Trains the unfinished runs of {folder: config}, and returns {folder: summary} of all.

  `found`: the `contents` of the data set that they all share.
  """
  summaries = {
    name: summary
    for name, config in runs.items()
    if (summary := _finished(config, workdir / name, prepared, found))
  }
  missing = [name for name in runs if name not in summaries]
  if missing:
    duration.announce([runs[name] for name in missing], len(runs))
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


def _read_summary(workdir: pathlib.Path) -> dict[str, Any] | None:
  path = workdir / 'summary.json'
  return json.loads(path.read_text(encoding='utf-8')) if path.exists() else None


def _finished(
  config: ConfigDict, workdir: pathlib.Path, prepared: robustness.Prepared, found: Contents
) -> dict[str, Any] | None:
  """The summary of a finished run, or None if something is left to do."""
  summary = _read_summary(workdir)
  if summary is None or summary['step'] != config.total_steps:
    return None
  prepare_workdir(workdir, config)
  check_contents(summary.get('contents', {}), found, config.data)
  wanted = set(config.data.eval_splits) | robustness.split_names(prepared.sources)
  complete = wanted <= summary['results'].keys()
  complete &= summary.get('not_prepared', {}) == prepared.missing  # no set was added since
  complete &= (workdir / outcomes.FILE).exists()
  return summary if complete else None


def _train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  summary = _read_summary(workdir)
  if summary is not None and summary['step'] == config.total_steps:
    # There are new evaluation splits, or an older version wrote no outcomes.
    return loop.evaluate_only(config, workdir, verbose=False).summary
  return loop.train_and_evaluate(config, workdir, verbose=False).summary
