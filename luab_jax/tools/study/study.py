"""The study: does LUAB help? Every arm is trained over several seeds, and the arms are compared.

An arm with a seed is an ordinary run in <workdir>/<arm>/seed<k>; a finished one is not trained
again, a cut one continues, so the same command goes on where a study stopped, and with more seeds
or more sweeps trains only what is missing. A run is evaluated once, at its end, whatever
`eval_every_epochs` says: the ends are what is compared. The design of the study is ours.

Sweeps (only if config.study names values for them):
  data_fractions: shares of the training images, a TFDS subsplit of `data.train_split`. All runs
    take the same number of steps, and of warm-up steps, as a run on all images: fewer images are
    seen more often, so that the comparison is of what images are worth, not of what steps are.
  byproduct_fractions: of the images, those that keep their byproducts (`data.byproduct_fraction`).
"""

import json
import pathlib
import sys
from typing import NamedTuple

import tqdm

from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.evaluate import robustness
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import prepare_workdir
from luab_jax.tools.study import statistics, tables
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment


class Arm(NamedTuple):
  """What an arm changes in the config; `weight` is the key of config.study with its λ, '' for 0."""

  says: str
  head: str
  weight: str = ''
  control: str = 'none'


ARMS = {
  'baseline': Arm('linear head, λ = 0: no byproducts', 'linear'),
  'luab_linear': Arm('linear head with click loss (the paper)', 'linear', 'linear_point_weight'),
  'luab_spatial': Arm('spatial head with click loss', 'spatial', 'spatial_point_weight'),
  'spatial_no_click': Arm('spatial head, λ = 0', 'spatial'),
  'shuffled': Arm(
    'control: spatial head, clicks of other images', 'spatial', 'spatial_point_weight', 'shuffled'
  ),
  'uniform': Arm(
    'control: spatial head, random clicks', 'spatial', 'spatial_point_weight', 'uniform'
  ),
}
# The arm with the same head that no click reaches.
WITHOUT_CLICKS = {'luab_linear': 'baseline', 'luab_spatial': 'spatial_no_click'}
# Arms of a sweep; a byproduct share of 0 is WITHOUT_CLICKS.
SWEEPS = {
  'data_fractions': ('baseline', 'luab_linear', 'spatial_no_click', 'luab_spatial'),
  'byproduct_fractions': ('luab_linear', 'luab_spatial'),
}
# Between two starts of a study these may change: they alter no run that is there already.
CHANGEABLE = (
  'log_every',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_checkpoints',
  'keep_every_steps',
  'keep_best',
  'on_nan',
  'preemption_grace_seconds',
  'report_images',
  'wandb',
  'data.data_dir',
  'data.eval_splits',
  'robustness.',
  'study.seeds',
  'study.data_fractions',
  'study.byproduct_fractions',
)


def run_study(config, workdir) -> dict:
  """Trains what is missing of a study, and writes study.json, study.md and the plots.

  Args:
    config: ml_collections.ConfigDict; `config.study` says which runs there are.
    workdir: folder of the study.
  Returns:
    What study.json holds, with comparison.Interval objects.
  Raises:
    UserError: bad config, missing data, a workdir of another study, a run that fails.
  """
  workdir = pathlib.Path(workdir)
  _check(config)
  whole = Experiment(config)
  prepare_workdir(workdir, config, changeable=CHANGEABLE)
  figures, machines = _run_all(planned(config, whole), workdir, whole.robustness)
  result = {
    'data': config.data.name,
    'model': config.model.name,
    'batch_size': config.batch_size,
    'total_steps': whole.total_steps,
    'images': whole.num_examples,
    'icon_label': config.data.icon_label if whole.spec.multi_label else None,
    'seeds': _seeds(config),
    'machines': machines,
    **_compare(config, figures),
  }
  if hosts.is_main_host():
    tables.write(result, workdir)
  return result


def _check(config):
  study = config.study
  if study.seeds < 1:
    raise UserError(f'study.seeds={study.seeds}: at least 1, and 2 for an interval')
  for key in ('linear_point_weight', 'spatial_point_weight'):
    if not study[key] > 0:
      raise UserError(f'study.{key}={study[key]}: the arms with click loss need a λ above 0')
  for key in SWEEPS:
    for value in study[key]:
      if not 0 <= value <= 1 or (value == 0 and key == 'data_fractions'):
        raise UserError(f'study.{key}={tuple(study[key])}: {value} is no share between 0 and 1')


def _seeds(config):
  return [config.seed + k for k in range(config.study.seeds)]


def folder(arm, seed, sweep='', value=1.0) -> str:
  """Where a run lies below the workdir; ends of a sweep are runs that the study has anyway."""
  if sweep == 'byproduct_fractions' and value == 0:
    arm, value = WITHOUT_CLICKS[arm], 1.0
  part = f'{sweep.removesuffix("s")}_{value:g}/' if value != 1 else ''
  return f'{part}{arm}/seed{seed}'


def planned(config, whole) -> dict:
  """{folder: config} of all runs, in the order of training: seed by seed, sweeps last.

  Args:
    config: of the study.
    whole: experiment.Experiment of it, all images.
  """
  runs = {
    folder(arm, seed): _arm_config(config, whole, arm, seed)
    for seed in _seeds(config)
    for arm in ARMS
  }
  for sweep, arms in SWEEPS.items():
    for seed in _seeds(config):
      for value in sorted(config.study[sweep], reverse=True):
        for arm in arms:
          name = folder(arm, seed, sweep, value)
          if name not in runs:
            change = _on_fewer_images if sweep == 'data_fractions' else _with_fewer_byproducts
            runs[name] = change(_arm_config(config, whole, arm, seed), whole, value)
  return runs


def _arm_config(config, whole, arm, seed):
  arm = ARMS[arm]
  config = config.copy_and_resolve_references()
  config.seed, config.total_steps, config.eval_every_epochs = seed, whole.total_steps, 0.0
  config.model.head, config.data.control = arm.head, arm.control
  config.loss.point_weight = float(config.study[arm.weight]) if arm.weight else 0.0
  return config


def _on_fewer_images(config, whole, fraction):
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  config.data.train_split = tfrecords.first_part(builder, config.data.train_split, fraction)
  number = tfrecords.open_split(builder, config.data.train_split).num_examples
  # Epochs are shorter by as much; in steps the warm-up stays what it was.
  config.optimizer.warmup_epochs *= whole.num_examples / number
  return config


def _with_fewer_byproducts(config, whole, share):
  del whole
  config.data.byproduct_fraction = float(share)
  return config


def _run_all(runs, workdir, prepared):
  """Trains what is not finished: ({folder: figures}, names of the machines)."""
  summaries = {name: _finished(config, workdir / name, prepared) for name, config in runs.items()}
  missing = [name for name, summary in summaries.items() if summary is None]
  terminal = hosts.is_main_host() and sys.stderr.isatty()
  with tqdm.tqdm(
    total=len(runs),
    initial=len(runs) - len(missing),
    desc='study',
    unit='run',
    disable=not terminal,
    dynamic_ncols=True,
  ) as bar:
    for name in missing:
      bar.set_postfix_str(name)
      try:
        summaries[name] = _train(runs[name], workdir / name)
      except UserError as error:
        raise UserError(f'{name}: {error}') from error
      bar.update()
  figures = {}
  for name, config in runs.items():
    figures[name] = statistics.figures_of(summaries[name])
    if config.model.head == 'linear' and not config.loss.point_weight:
      # Nobody taught the two outputs for the point anything: their error is no result.
      figures[name] = {k: v for k, v in figures[name].items() if not k.endswith('/click_error')}
  return figures, sorted({summary['machine'] for summary in summaries.values()})


def _summary(workdir):
  path = workdir / 'summary.json'
  return json.loads(path.read_text(encoding='utf-8')) if path.exists() else None


def _finished(config, workdir, prepared):
  """The summary of a run that needs nothing more, else None."""
  summary = _summary(workdir)
  if summary is None or summary['step'] != config.total_steps:
    return None
  prepare_workdir(workdir, config)
  wanted = set(config.data.eval_splits) | robustness.split_names(prepared.sources)
  complete = wanted <= summary['results'].keys()
  complete &= summary.get('not_prepared', {}) == prepared.missing  # no set has come since
  return summary if complete else None


def _train(config, workdir):
  summary = _summary(workdir)
  if summary is not None and summary['step'] == config.total_steps:
    return loop.evaluate_only(config, workdir, quiet=True)  # there are new evaluation splits
  return loop.train_and_evaluate(config, workdir, quiet=True)


def _compare(config, figures):
  """The comparisons of study.json."""

  def runs(arm, sweep='', value=1.0):
    return {seed: figures[folder(arm, seed, sweep, value)] for seed in _seeds(config)}

  arms = {}
  for name, arm in ARMS.items():
    arms[name] = {
      'says': arm.says,
      'point_weight': config.study[arm.weight] if arm.weight else 0.0,
      'runs': runs(name),
      'figures': statistics.summarise(runs(name)),
    }
    if name != 'baseline':
      arms[name]['difference_to_baseline'] = statistics.subtract(runs(name), runs('baseline'))
  others = [name for name, arm in ARMS.items() if arm.head == 'spatial' and name != 'luab_spatial']
  sweeps = {}
  for sweep, names in SWEEPS.items():
    values = sorted(config.study[sweep])
    sweeps[sweep] = {
      'values': values,
      'arms': {arm: [statistics.summarise(runs(arm, sweep, v)) for v in values] for arm in names},
      # Against the same head without clicks, on the same images.
      'gain': {
        arm: [
          statistics.subtract(
            runs(arm, sweep, v), runs(without, *((sweep, v) if sweep == 'data_fractions' else ()))
          )
          for v in values
        ]
        for arm, without in WITHOUT_CLICKS.items()
      },
    }
  return {
    'arms': arms,
    'luab_spatial_minus': {
      other: statistics.subtract(runs('luab_spatial'), runs(other)) for other in others
    },
    'sweeps': {sweep: content for sweep, content in sweeps.items() if content['values']},
  }
