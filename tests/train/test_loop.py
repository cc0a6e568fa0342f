"""Memory is reused and batches are transferred ahead. Runs: test_train.py."""

import gc

import jax
import numpy as np
import pytest

from configs import default
from luab_jax.data.dataset import DatasetSpec
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import Schedules, make_optimizer
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step


def _small_step():
  """(state and batch on the devices, step); a model that compiles in a second."""
  from luab_jax.models import LuabModel
  from luab_jax.models.heads import SpatialHead
  from luab_jax.models.vit import VisionTransformer

  model = LuabModel(VisionTransformer(16, 0, 2, 8), SpatialHead(5, 1, False))
  config = default.get_config()
  config.loss.label_smoothing = 0.0
  config.optimizer.ema_decay = 0.9
  schedules = Schedules(lambda step: 0.1, lambda step: 1.0)
  tx = make_optimizer(config, schedules.learning_rate)
  spec = DatasetSpec('painted', list('abcde'), 5, False, 1, {})
  step = make_train_step(model, tx, schedules, spec, config)
  rng = np.random.default_rng(0)
  batch = {
    'image': rng.normal(size=(16, 16, 16, 3)).astype(np.float32),
    'label': rng.integers(0, 5, 16).astype(np.int32),
    'point': rng.random((16, 1, 2)).astype(np.float32),
    'point_mask': np.ones((16, 1), np.float32),
    'example_mask': np.ones(16, np.float32),
  }
  state = jax.device_get(init_state(model, tx, seed=0, image_size=16, ema=True))
  return parallel.replicate(state), parallel.shard(batch), step


def _live_bytes():
  return sum(array.nbytes for array in jax.live_arrays())


@pytest.mark.slow
def test_the_state_is_donated():
  state, batch, step = _small_step()
  donating = parallel.map_step(step, donate_state=True)
  state, sums = donating(state, batch)
  gc.collect()  # arrays that earlier tests left
  before, old = _live_bytes(), state
  state, sums = jax.block_until_ready(donating(state, batch))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
  assert _live_bytes() == before  # one state, not two


def test_batches_are_on_their_way_before_they_are_asked_for():
  taken = []

  def batches():
    for number in range(6):
      taken.append(number)
      yield {'x': np.full((8, 2), number, np.float32)}

  stream = parallel.prefetch(batches(), size=2)
  assert int(next(stream)['x'][0, 0, 0]) == 0 and taken == [0, 1, 2]
  next(stream)
  assert taken == [0, 1, 2, 3]
