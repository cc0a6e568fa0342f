"""Checks the options of a config before any file is opened; a mistake gets one line."""

import optax
from ml_collections import ConfigDict

from luab_jax.data import dataset
from luab_jax.data.dataset import DatasetSpec
from luab_jax.errors import UserError
from luab_jax.evaluate import robustness
from luab_jax.evaluate.evaluate import metric_names
from luab_jax.models import VITS, check_image_size, check_model
from luab_jax.models.losses import check_loss, point_weight_schedule
from luab_jax.runtime import parallel, profile
from luab_jax.train import mixing
from luab_jax.train.optimizer import make_optimizer

_LOWEST = (
  ('batch_size', 1),
  ('log_every', 1),
  ('checkpoint_every_steps', 1),
  ('total_steps', 0),
  ('eval_every_epochs', 0),
  ('keep_checkpoints', 1),
  ('keep_every_steps', 0),
  ('preemption_grace_seconds', 0),
  ('report_images', 0),
  ('localization.max_images', 0),
  ('optimizer.grad_accum_steps', 1),
  ('optimizer.learning_rate', 0),
  ('optimizer.head_rate', 0),
  ('optimizer.layer_decay', 0),
  ('optimizer.warmup_epochs', 0),
  ('optimizer.momentum', 0),
  ('optimizer.beta1', 0),
  ('optimizer.beta2', 0),
  ('optimizer.weight_decay', 0),
  ('optimizer.grad_clip_norm', 0),
  ('optimizer.ema_decay', 0),
  ('loss.point_weight', 0),
  ('loss.map_weight', 0),
)
_BELOW_ONE = ('momentum', 'beta1', 'beta2', 'ema_decay')


def check_options(config: ConfigDict) -> None:
  """Raises UserError for values that would fail later or are meaningless on any data set."""
  for key, low in _LOWEST:
    if not config[key] >= low:  # also rejects NaN
      raise UserError(f'{key}={config[key]} is too small: at least {low}')
  for key in _BELOW_ONE:
    if not config.optimizer[key] < 1:
      raise UserError(f'optimizer.{key}={config.optimizer[key]} is too large: below 1')
  if not config.total_steps and not config.num_epochs > 0:
    raise UserError(
      f'num_epochs={config.num_epochs} trains nothing: set it, or total_steps, above 0'
    )
  if not -(1 << 63) <= config.seed < 1 << 63:
    raise UserError(f'seed={config.seed} does not fit in 64 bits')
  if config.on_nan not in ('stop', 'skip'):
    raise UserError(f"on_nan='{config.on_nan}' is unknown: choose stop or skip")
  parallel.check_batch_size(config.batch_size, config.optimizer.grad_accum_steps)
  dataset.check_options(config.data)
  mixing.check_pairs(config)
  check_model(config.model)
  check_image_size(config.model.name, config.data.image_size)
  check_loss(config.loss)
  _check_has_maps(config)
  profile.check_steps(config.profile_steps)
  point_weight_schedule(
    config.loss.point_schedule,
    config.loss.point_weight,
    total_steps=1,
    warmup_steps=config.loss.point_warmup_steps,
  )
  make_optimizer(config, optax.constant_schedule(0.0))
  robustness.check_sets(config.robustness.sets)
  _check_best_split(config)


def _check_has_maps(config: ConfigDict) -> None:
  """Raises UserError if the map loss does not fit `data.control` or the maps of the linear head."""
  model, map_loss = config.model, config.loss.map_loss
  if map_loss == 'heatmap' and config.data.control != 'none':
    raise UserError(
      f"loss.map_loss='heatmap': data.control='{config.data.control}' replaces points but not heat "
      'maps; choose another map loss'
    )
  if map_loss == 'none' or model.head != 'linear':
    return
  why = ''
  if config.data.byproduct == 'trace':
    why = 'has no map for each point of a trace'
  elif model.name in VITS and model.vit_pool == 'token':
    why = f'on the class token of {model.name} does not read the maps'
  if why:
    raise UserError(
      f"loss.map_loss='{map_loss}': the linear head {why}; choose --config.model.head=spatial"
    )


def _check_best_split(config: ConfigDict) -> None:
  split, _ = _split_and_metric(config.keep_best)
  if not config.keep_best or split in config.data.eval_splits:
    return
  why = f"there is no split '{split}' to evaluate"
  if split.partition('/')[0] in config.robustness.sets:
    why = f'{split} is evaluated once, at the end'
  raise UserError(
    f"keep_best='{config.keep_best}': {why}; name SPLIT/METRIC, with one of the splits "
    f'{", ".join(config.data.eval_splits)}'
  )


def check_keep_best(config: ConfigDict, spec: DatasetSpec) -> None:
  """Raises UserError if `config.keep_best` names a metric that is never measured."""
  split, metric = _split_and_metric(config.keep_best)
  names = metric_names(
    config.model.head,
    num_classes=spec.num_classes,
    multi_label=spec.multi_label,
    map_loss=config.loss.map_loss,
  )
  if config.keep_best and metric not in names:
    known = ', '.join(f'{split}/{name}' for name in names)
    raise UserError(f"keep_best='{config.keep_best}': no such metric; there are {known}")


def _split_and_metric(keep_best: str) -> tuple[str, str]:
  split, _, metric = keep_best.removeprefix('-').rpartition('/')
  return split, metric
