"""The runs of a study: arms, sweeps, and the config of each run."""

from typing import NamedTuple

from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.train.experiment import Experiment


class Arm(NamedTuple):
  """What an arm changes in the config.

  Attributes:
    description: for the tables.
    head: `model.head`.
    weight: key of config.study with the point loss weight λ; '' for λ = 0.
    control: `data.control`.
  """

  description: str
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
# The arm with the same head and no click loss.
WITHOUT_CLICKS = {'luab_linear': 'baseline', 'luab_spatial': 'spatial_no_click'}
# Arms of each sweep; a byproduct fraction of 0 is WITHOUT_CLICKS.
SWEEPS = {
  'data_fractions': ('baseline', 'luab_linear', 'spatial_no_click', 'luab_spatial'),
  'byproduct_fractions': ('luab_linear', 'luab_spatial'),
}


def check_config(study: ConfigDict) -> None:
  """Raises UserError for values of config.study that make no study."""
  if study.seeds < 1:
    raise UserError(f'study.seeds={study.seeds}: at least 1, and 2 for an interval')
  for key in ('linear_point_weight', 'spatial_point_weight'):
    if not study[key] > 0:
      raise UserError(f'study.{key}={study[key]}: the arms with click loss need a λ above 0')
  for key in SWEEPS:
    for value in study[key]:
      if (
        not isinstance(value, int | float)
        or not 0 <= value <= 1
        or (value == 0 and key == 'data_fractions')
      ):
        raise UserError(
          f'study.{key}={tuple(study[key])}: {value} is not a fraction between 0 and 1'
        )


def seeds(config: ConfigDict) -> list[int]:
  """The seeds of a study, starting at the config's own."""
  return [config.seed + k for k in range(config.study.seeds)]


def run_folder(arm: str, seed: int, sweep: str = '', value: float = 1.0) -> str:
  """Folder of a run below the workdir. The ends of a sweep are runs of the study itself."""
  if sweep == 'byproduct_fractions' and value == 0:
    arm, value = WITHOUT_CLICKS[arm], 1.0
  parent = f'{sweep.removesuffix("s")}_{value:g}/' if value != 1 else ''
  return f'{parent}{arm}/seed{seed}'


def plan_runs(config: ConfigDict, experiment: Experiment) -> dict[str, ConfigDict]:
  """{folder: config} of all runs in training order: seed by seed, sweeps last.

  Args:
    config: of the study.
    experiment: of that config: all training images.
  """
  runs = {
    run_folder(arm, seed): _arm_config(config, experiment, arm, seed)
    for seed in seeds(config)
    for arm in ARMS
  }
  for sweep, arms in SWEEPS.items():
    for seed in seeds(config):
      for value in sorted(config.study[sweep], reverse=True):
        for arm in arms:
          folder = run_folder(arm, seed, sweep, value)
          if folder not in runs:
            runs[folder] = _arm_config(config, experiment, arm, seed)
            if sweep == 'data_fractions':
              _subsample_images(runs[folder], experiment.num_examples, value)
            else:
              runs[folder].data.byproduct_fraction = float(value)
  return runs


def _arm_config(config: ConfigDict, experiment: Experiment, name: str, seed: int) -> ConfigDict:
  arm = ARMS[name]
  config = config.copy_and_resolve_references()
  config.seed, config.total_steps, config.eval_every_epochs = seed, experiment.total_steps, 0.0
  config.model.head, config.data.control = arm.head, arm.control
  config.loss.point_weight = float(config.study[arm.weight]) if arm.weight else 0.0
  return config


def _subsample_images(config: ConfigDict, num_examples: int, fraction: float) -> None:
  """Changes the config to train on a fraction of its `num_examples` images."""
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  config.data.train_split = tfrecords.first_fraction(builder, config.data.train_split, fraction)
  number = tfrecords.open_split(builder, config.data.train_split).num_examples
  # Epochs become shorter; the number of warm-up steps stays the same.
  config.optimizer.warmup_epochs *= num_examples / number
