"""Memory is used again, batches come early, what was compiled is kept. Runs: test_train.py."""

import os
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from luab_jax.data.dataset import DatasetSpec
from luab_jax.runtime import compile_cache, parallel
from luab_jax.train.optimizer import Schedules, make_optimizer
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def hits():
  """A list that grows with each compiled program that JAX takes from disk."""
  names = []

  def listen(name, **_):
    if name == '/jax/compilation_cache/cache_hits':
      names.append(name)

  jax.monitoring.register_event_listener(listen)
  seconds = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)  # nothing is too quick to keep
  yield names
  jax.config.update('jax_persistent_cache_min_compile_time_secs', seconds)
  jax.monitoring.unregister_event_listener(listen)


def _small_step():
  """(state and batch on the devices, step); a model that compiles in a second."""
  from luab_jax.models import LuabModel
  from luab_jax.models.heads import SpatialHead
  from luab_jax.models.vit import VisionTransformer

  model = LuabModel(VisionTransformer(16, 0, 2, 8), SpatialHead(5, 1, False))
  config = ml_collections.ConfigDict(
    {
      'loss': {'label_smoothing': 0.0, 'point_loss': 'smooth_l1', 'smooth_l1_beta': 1.0},
      'optimizer': {
        'name': 'sgd',
        'momentum': 0.9,
        'weight_decay': 0.1,
        'grad_clip_norm': 0.0,
        'grad_accum_steps': 1,
        'ema_decay': 0.9,
      },
      'on_nan': 'stop',
    }
  )
  schedules = Schedules(lambda step: 0.1, lambda step: 1.0)
  tx = make_optimizer(config.optimizer, schedules.learning_rate)
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


def test_the_state_is_donated():
  state, batch, step = _small_step()
  donating = parallel.pmap_step(step, donate_state=True)
  state, sums = donating(state, batch)
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
def test_what_is_compiled_comes_from_disk_the_next_time_and_computes_the_same_bits(hits):
  state, batch, step = _small_step()
  folder = pathlib.Path(jax.config.jax_compilation_cache_dir)

  def run():
    jax.clear_caches()  # as in a new process
    before = len(hits)
    result = jax.device_get(parallel.pmap_step(step)(state, batch))
    return result, len(hits) - before

  for path in folder.glob('jit_*'):
    path.unlink()
  fresh, found = run()
  assert found == 0
  files = list(folder.glob('jit_*-cache'))
  assert files
  loaded, found = run()
  assert found >= 1
  jax.tree.map(np.testing.assert_array_equal, fresh, loaded)
  for path in files:  # a process was killed while it wrote them
    path.write_bytes(path.read_bytes()[:-100])
  with pytest.warns(UserWarning, match='Error reading persistent compilation cache entry'):
    compiled, _ = run()
  jax.tree.map(np.testing.assert_array_equal, fresh, compiled)


@pytest.fixture
def unset_cache(monkeypatch):
  """As if no folder had been chosen; afterwards the tests' own folder again."""
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  values = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  monkeypatch.setattr(warnings, 'showwarning', warnings.showwarning)
  yield
  for name, value in values.items():
    jax.config.update(name, value)


def test_where_the_cache_lies(unset_cache, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  compile_cache.use_compile_cache()
  chosen = pathlib.Path(jax.config.jax_compilation_cache_dir)
  assert chosen == tmp_path / 'luab_jax' / 'xla' / compile_cache.cpu_kind() and chosen.is_dir()
  assert compile_cache.cpu_kind() == compile_cache.cpu_kind()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'other'))
  compile_cache.use_compile_cache()  # somebody has chosen already
  assert pathlib.Path(jax.config.jax_compilation_cache_dir) == chosen


@pytest.mark.slow
def test_an_entry_that_was_cut_off_is_warned_of_and_compiled_once(tmp_path):
  """By a kill or a full disk: JAX itself would compile it at every start."""
  code = """
import resource, sys
import jax
from luab_jax.runtime import compile_cache
compile_cache.use_compile_cache()
if sys.argv[1:]:  # no file may become longer, as on a disk that is full
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith('/cache_hits') else None)
x = jax.device_put(jax.numpy.arange(8.0))
hits.clear()
print(float(jax.jit(lambda x: (x * x).sum())(x)), len(hits))
"""
  environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path), 'PYTHONPATH': str(ROOT)}
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)

  def run(*arguments):
    done = subprocess.run(
      [sys.executable, '-c', code, *arguments],
      env=environment,
      check=True,
      text=True,
      capture_output=True,
    )
    return done.stdout.split(), done.stderr.count('Error reading persistent')

  assert run('full') == (['140.0', '0'], 0)
  assert not list(tmp_path.glob('luab_jax/xla/*/jit__lambda*-cache'))
  assert run() == (['140.0', '0'], 0)
  assert run() == (['140.0', '1'], 0)
  [entry] = tmp_path.glob('luab_jax/xla/*/jit__lambda*-cache')
  entry.write_bytes(entry.read_bytes()[:100])
  assert run() == (['140.0', '0'], 1)
  assert run() == (['140.0', '1'], 0)


def test_a_home_that_cannot_be_written_is_done_without(unset_cache, monkeypatch, tmp_path):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  compile_cache.use_compile_cache()
  assert jax.config.jax_compilation_cache_dir is None
  assert float(jax.jit(lambda x: x + 1)(jnp.float32(1))) == 2
