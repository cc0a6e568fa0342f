"""The loop reuses memory, prefetches batches, compiles once and makes no hidden copies."""

import gc

import jax
import numpy as np
import pytest

from configs import default
from luab_jax.data.dataset import DatasetSpec
from luab_jax.evaluate import evaluate
from luab_jax.runtime import parallel
from luab_jax.train import loop, metric_log
from luab_jax.train.optimizer import Schedules, make_optimizer
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step
from tests.short_run import short_config


def _small_step():
  """(state on the devices, batch on the devices, step) of a model that compiles in a second."""
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


@pytest.mark.slow
def test_a_run_compiles_nothing_after_the_first_step_and_fetches_once_an_interval(
  synthetic_imagenet_ab, tmp_path, monkeypatch
):
  config = short_config(synthetic_imagenet_ab)  # nine steps, a line every two steps
  config.loss.label_smoothing = 0.05  # as in no other test, whose steps it would share
  compilations, fetches = [], []
  compiled, fetched, evaluated = [], [], []
  add, device_get, split = metric_log.RunLog.add, jax.device_get, evaluate.evaluate_split

  def listen(name, seconds, **_):
    if name == '/jax/core/compile/backend_compile_duration':
      compilations.append(seconds)

  def counting_add(self, step, metrics):
    add(self, step, metrics)
    compiled.append(len(compilations))
    fetched.append(len(fetches))

  def counting_split(*args, **kwargs):
    before = len(compilations)
    figures = split(*args, **kwargs)
    evaluated.append(len(compilations) - before)
    return figures

  monkeypatch.setattr(metric_log.RunLog, 'add', counting_add)
  monkeypatch.setattr(jax, 'device_get', lambda tree: (fetches.append(1), device_get(tree))[1])
  monkeypatch.setattr(evaluate, 'evaluate_split', counting_split)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    loop.train_and_evaluate(config, tmp_path)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert compiled[0] > 0 and len(set(compiled[:6])) == 1
  # Two splits after step 6 and two after step 9: only the first evaluations compile.
  assert evaluated[0] > 0 and evaluated[2:] == [0, 0]
  # Apart from evaluations, only finished intervals are fetched.
  assert np.diff(fetched[:5]).tolist() == [0, 1, 0, 1]


@pytest.mark.slow
def test_a_hidden_copy_in_the_loop_stops_the_run(synthetic_imagenet_ab, tmp_path, monkeypatch):
  add = metric_log.RunLog.add

  def careless_add(self, step, metrics):
    total, count = metrics['loss']
    add(self, step, {**metrics, 'loss': (total * np.ones(8, np.float32), count)})

  monkeypatch.setattr(metric_log.RunLog, 'add', careless_add)
  with pytest.raises(jax.errors.JaxRuntimeError, match='Disallowed host-to-device transfer'):
    loop.train_and_evaluate(short_config(synthetic_imagenet_ab), tmp_path)
