"""Compiled programs are reused from disk: the folder, and what happens if an entry is damaged."""

import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from luab_jax.runtime import compile_cache, parallel


def _use(folder):
  jax.config.update('jax_compilation_cache_dir', str(folder))
  compilation_cache.reset_cache()  # otherwise JAX keeps using its first folder


@pytest.fixture
def own_cache(tmp_path):
  """A cache folder that no other test process uses."""
  before = jax.config.jax_compilation_cache_dir
  _use(tmp_path)
  yield tmp_path
  _use(before)


@pytest.fixture
def hits():
  """A list that grows with each compiled program that JAX reads from disk."""
  names = []

  def listen(name, **_):
    if name == '/jax/compilation_cache/cache_hits':
      names.append(name)

  jax.monitoring.register_event_listener(listen)
  seconds = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)  # cache even the quickest
  yield names
  jax.config.update('jax_persistent_cache_min_compile_time_secs', seconds)
  jax.monitoring.unregister_event_listener(listen)


def test_a_program_comes_from_disk_and_is_compiled_anew_where_its_entry_is_damaged(hits, own_cache):
  values = parallel.replicate(jnp.arange(8.0))

  def run():
    jax.clear_caches()  # as in a new process
    before = len(hits)
    step = parallel.map_step(lambda x, y: jax.lax.psum((x * y).sum(), parallel.AXIS))
    result = jax.device_get(step(values, values))
    assert (result == 140 * jax.local_device_count()).all()
    return len(hits) - before

  assert run() == 0
  files = list(own_cache.glob('jit_*-cache'))
  assert files
  assert run() >= 1
  for path in files:  # as if the process had been killed while it wrote them
    path.write_bytes(path.read_bytes()[:-100])
  with pytest.warns(UserWarning, match='Error reading persistent compilation cache entry'):
    run()


@pytest.fixture
def unset_cache():
  """JAX without a cache folder; the tests' own folder is restored afterwards."""
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  values = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in values.items():
    jax.config.update(name, value)


def test_where_the_cache_lies(unset_cache, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  compile_cache.use_compile_cache()
  chosen = pathlib.Path(jax.config.jax_compilation_cache_dir)
  assert chosen == tmp_path / 'luab_jax' / 'xla' / compile_cache.cpu_kind() and chosen.is_dir()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'other'))
  compile_cache.use_compile_cache()  # a folder is set already
  assert pathlib.Path(jax.config.jax_compilation_cache_dir) == chosen


def test_without_a_writable_home_there_is_no_cache(unset_cache, monkeypatch, tmp_path):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  compile_cache.use_compile_cache()
  assert jax.config.jax_compilation_cache_dir is None
  assert float(jax.jit(lambda x: x + 1)(jnp.float32(1))) == 2
