"""The runs of a study: arms, sweeps, and the config of each run."""

import re
from typing import Literal, NamedTuple

from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.train.experiment import Experiment


class Arm(NamedTuple):
  """What an arm changes in the config.

  Attributes:
    description: for the tables.
    head: `model.head`.
    network: 'linear' for `study.linear_model`, 'spatial' for `model.name`.
    loss: which loss trains on the clicks: none, the point loss or the map loss.
    control: `data.control`.
  """

  description: str
  head: str
  network: Literal['linear', 'spatial']
  loss: Literal['', 'point', 'map'] = ''
  control: str = 'none'


ARMS = {
  'baseline': Arm('linear head, no byproducts', 'linear', 'linear'),
  'luab_linear': Arm('linear head with point loss (the paper)', 'linear', 'linear', 'point'),
  'linear_map': Arm('linear head with map loss on its CAM', 'linear', 'linear', 'map'),
  'linear_shuffled': Arm(
    'control: linear head with point loss, clicks of other images',
    'linear',
    'linear',
    'point',
    'shuffled',
  ),
  'spatial_baseline': Arm(
    'linear head, no byproducts, on the network of the spatial arms', 'linear', 'spatial'
  ),
  'spatial_no_click': Arm('spatial head alone, no byproducts', 'spatial', 'spatial'),
  'luab_spatial': Arm('spatial head with point loss', 'spatial', 'spatial', 'point'),
  'spatial_map': Arm('spatial head with map loss', 'spatial', 'spatial', 'map'),
  'point_shuffled': Arm(
    'control: spatial head with point loss, clicks of other images',
    'spatial',
    'spatial',
    'point',
    'shuffled',
  ),
  'map_shuffled': Arm(
    'control: spatial head with map loss, clicks of other images',
    'spatial',
    'spatial',
    'map',
    'shuffled',
  ),
  'map_uniform': Arm(
    'control: spatial head with map loss, random clicks', 'spatial', 'spatial', 'map', 'uniform'
  ),
}
# The arm with the same head and network and no byproducts.
WITHOUT_CLICKS = {
  'luab_linear': 'baseline',
  'linear_map': 'baseline',
  'luab_spatial': 'spatial_no_click',
  'spatial_map': 'spatial_no_click',
}
SWEEPS = ('data_fractions', 'byproduct_fractions')


def check_config(config: ConfigDict) -> None:
  """Raises UserError for invalid values of config.study."""
  study = config.study
  if study.seeds < 1:
    raise UserError(f'study.seeds={study.seeds}: at least 1 is needed, 3 for intervals')
  for key in ('linear_point_weight', 'spatial_point_weight', 'map_weight'):
    if not study[key] > 0:
      raise UserError(f'study.{key}={study[key]}: the arms with this loss need a weight above 0')
  for name in study.arms:
    if name not in ARMS:
      raise UserError(f"study.arms: no arm '{name}': choose from {', '.join(ARMS)}")
  try:
    groups = re.compile(study.unit).groups
  except re.error as error:
    raise UserError(f"study.unit='{study.unit}' is not a regular expression: {error}") from error
  if study.unit and not groups:
    raise UserError(
      f"study.unit='{study.unit}' has no group: put the part of the file name that names the unit "
      'in parentheses'
    )
  if not config.data.eval_splits:
    raise UserError('data.eval_splits is empty: a study compares its arms on evaluation splits')
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


def arms(config: ConfigDict) -> list[str]:
  """The names of the arms of a study, in the order of ARMS."""
  study = config.study
  return [
    name
    for name, arm in ARMS.items()
    if name in (study.arms or ARMS)
    and (arm.loss != 'map' or study.map_loss != 'none')
    and (name != 'spatial_baseline' or networks(config)['linear'] != networks(config)['spatial'])
  ]


def networks(config: ConfigDict) -> dict[str, str]:
  """{Arm.network: model.name}."""
  return {'linear': config.study.linear_model or config.model.name, 'spatial': config.model.name}


def baseline_of(config: ConfigDict, network: str) -> str:
  """The arm with the linear head and no byproducts on an Arm.network."""
  same = networks(config)['linear'] == networks(config)['spatial']
  return 'baseline' if same or network == 'linear' else 'spatial_baseline'


def sweep_pairs(config: ConfigDict) -> dict[str, str]:
  """{arm with clicks: its counterpart without} for the sweeps, where the study has both."""
  known = arms(config)
  return {
    arm: without for arm, without in WITHOUT_CLICKS.items() if arm in known and without in known
  }


def run_folder(arm: str, seed: int, sweep: str = '', value: float = 1.0) -> str:
  """Folder of a run below the workdir. The ends of a sweep are runs of the study itself."""
  if sweep == 'byproduct_fractions' and value == 0:
    arm, value = WITHOUT_CLICKS[arm], 1.0
  parent = f'{sweep.removesuffix("s")}_{value:g}/' if value != 1 else ''
  return f'{parent}{arm}/seed{seed}'


def plan_runs(config: ConfigDict, experiment: Experiment) -> dict[str, ConfigDict]:
  """{folder: config} of all runs in training order: seed by seed, sweeps last.

  Args:
    config: the config of the study.
    experiment: built from that config, so with all training images.
  """
  runs = {
    run_folder(arm, seed): _arm_config(config, experiment, arm, seed)
    for seed in seeds(config)
    for arm in arms(config)
  }
  pairs = sweep_pairs(config)
  for sweep in SWEEPS:
    swept = {*pairs, *pairs.values()} if sweep == 'data_fractions' else pairs.keys()
    for seed in seeds(config):
      for value in sorted(config.study[sweep], reverse=True):
        for arm in (name for name in ARMS if name in swept):
          folder = run_folder(arm, seed, sweep, value)
          if folder not in runs:
            runs[folder] = _arm_config(config, experiment, arm, seed)
            if sweep == 'data_fractions':
              _subsample_images(runs[folder], experiment.num_examples, value)
            else:
              runs[folder].data.byproduct_fraction = float(value)
  return runs


def _arm_config(config: ConfigDict, experiment: Experiment, name: str, seed: int) -> ConfigDict:
  arm, study = ARMS[name], config.study
  weight = study.linear_point_weight if arm.head == 'linear' else study.spatial_point_weight
  model = networks(config)[arm.network]
  config = config.copy_and_resolve_references()
  config.seed, config.total_steps, config.eval_every_epochs = seed, experiment.total_steps, 0.0
  config.model.name, config.model.head, config.data.control = model, arm.head, arm.control
  config.loss.point_weight = float(weight) if arm.loss == 'point' else 0.0
  config.loss.map_loss = study.map_loss if arm.loss == 'map' else 'none'
  if arm.loss == 'map':
    config.loss.map_weight = float(study.map_weight)
  return config


def _subsample_images(config: ConfigDict, num_examples: int, fraction: float) -> None:
  """Changes the config to train on a fraction of its `num_examples` images."""
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  config.data.train_split = tfrecords.first_fraction(builder, config.data.train_split, fraction)
  number = tfrecords.open_split(builder, config.data.train_split).num_examples
  # Epochs become shorter; the number of warm-up steps stays the same.
  config.optimizer.warmup_epochs *= num_examples / number
