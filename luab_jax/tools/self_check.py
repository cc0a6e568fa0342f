"""One training step of a tiny network: does it run here, and do all devices agree with one?"""

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from luab_jax.data.dataset import DatasetSpec
from luab_jax.errors import UserError
from luab_jax.models import build_model
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import Schedules
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step

_SIZE, _CLASSES, _EXAMPLES = 32, 4, 4  # pixels, classes, examples per device
_MODEL = {
  'name': 'tiny_conv',
  'head': 'spatial',
  'dtype': 'float32',
  'normalisation': 'imagenet',
  'sync_batch_norm': True,
  'vit_pool': 'token',
  'vit_positions': 'learned',
  'drop_path': 0.0,
  'dropout': 0.0,
  'remat': False,
  'freeze_backbone': False,
}
_TRAINING = {
  'loss': {
    'label_smoothing': 0.0,
    'point_loss': 'smooth_l1',
    'smooth_l1_beta': 1.0,
    'map_loss': 'none',
  },
  'optimizer': {'grad_accum_steps': 1, 'ema_decay': 0.0},
  'on_nan': 'stop',
  'model': _MODEL,
  'data': {'mixup_alpha': 0.0, 'cutmix_alpha': 0.0},
}


def check_step() -> str:
  """Runs one training step on all devices of all hosts, and the same step on a single device.

  Returns:
    One line with the losses.

  Raises:
    UserError: the loss is not finite, or all devices together give another result than one.
  """
  model = build_model(ConfigDict(_MODEL), num_classes=_CLASSES, num_points=1, multi_label=False)
  optimizer = optax.sgd(0.1)
  step = make_train_step(
    model,
    optimizer,
    Schedules(optax.constant_schedule(0.1), optax.constant_schedule(1.0)),
    DatasetSpec('self check', list('abcd'), _CLASSES, False, 1, {}),
    ConfigDict(_TRAINING),
  )
  state = jax.device_get(init_state(model, optimizer, seed=0, image_size=_SIZE, ema=False))
  batch = _batch(_EXAMPLES * jax.device_count())
  rows = _EXAMPLES * jax.local_device_count()
  first = jax.process_index() * rows
  local = jax.tree.map(lambda leaf: leaf[first : first + rows], batch)
  with jax.default_matmul_precision('float32'):  # else accelerators round differently by shape
    on_all = parallel.fetch(
      parallel.map_step(step)(parallel.replicate(state), parallel.shard(local))
    )
    # On one device, with a device axis of length 1.
    on_one = jax.jit(jax.vmap(step, axis_name=parallel.AXIS))(
      *jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, batch))
    )
    on_one = jax.tree.map(lambda leaf: leaf[0], jax.device_get(on_one))
  return _compare(on_all, on_one)


def _batch(size: int) -> parallel.Tree:
  random = np.random.default_rng(0)
  return {
    'image': random.integers(0, 256, (size, _SIZE, _SIZE, 3), np.uint8),
    'label': random.integers(0, _CLASSES, size).astype(np.int32),
    'point': random.random((size, 1, 2), np.float32),
    'point_mask': random.integers(0, 2, (size, 1)).astype(np.float32),
    'example_mask': np.ones(size, np.float32),
  }


def _compare(on_all: tuple, on_one: tuple) -> str:
  """Compares two (state, sums); see `check_step`."""
  loss, single = (float(sums['loss'][0]) for _, sums in (on_all, on_one))
  count = jax.device_count()
  if not np.isfinite(loss):
    raise UserError(
      f'a training step on {count} device(s) gives a loss of {loss}: reinstall jax with the wheel '
      'for this machine'
    )
  pairs = zip(*(jax.tree.leaves(state.params) for state, _ in (on_all, on_one)), strict=True)
  worst = max(float(np.abs(left - right).max()) for left, right in pairs)
  if abs(loss - single) > 1e-3 * abs(single) or worst > 1e-3:
    raise UserError(
      f'a training step on {count} devices gives a loss of {loss:.6g}, on one {single:.6g} '
      f'(parameters differ by up to {worst:.2g}): the devices do not work together; try '
      'NCCL_P2P_DISABLE=1 on GPUs, and check their driver'
    )
  return f'training step: loss {loss:.4f} on {count} device(s), {single:.4f} on one'
