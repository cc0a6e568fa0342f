"""A trace of a range of steps, for TensorBoard's profiler."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from luab_jax.errors import UserError
from luab_jax.runtime.profile import Profile, check_steps


@jax.jit
def _step(x):
  return jnp.sin(x @ x)


def _files(folder):
  return [path for path in folder.rglob('*') if path.is_file()]


@pytest.mark.slow
def test_the_steps_of_the_profile_are_traced(tmp_path):
  states, written = [_step(jnp.ones((8, 8)))], {}
  with Profile(tmp_path, (2, 3)) as profile:
    for step in profile.steps(range(1, 6), lambda: states[-1]):
      written[step] = bool(_files(tmp_path))
      with jax.profiler.TraceAnnotation(f'training step {step}'):
        states.append(_step(states[-1]))
  assert written == {1: False, 2: False, 3: False, 4: True, 5: True}
  (trace,) = (tmp_path / 'tensorboard/plugins/profile').glob('*/*.trace.json.gz')
  events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  names = {event.get('name', '') for event in events}
  assert {name for name in names if name.startswith('training')} == {
    'training step 2',
    'training step 3',
  }


@pytest.mark.slow
def test_a_run_that_stops_in_between_leaves_its_trace(tmp_path):
  with pytest.raises(KeyboardInterrupt), Profile(tmp_path, (1, 9)) as profile:
    for _ in profile.steps(range(1, 6), lambda: jnp.ones(())):
      raise KeyboardInterrupt
  assert list((tmp_path / 'tensorboard/plugins/profile').glob('*/*.xplane.pb'))


@pytest.mark.parametrize('steps', [(1,), (0, 3), (5, 4), (1, 2, 3)])
def test_a_wrong_range_of_steps_is_named(steps):
  with pytest.raises(UserError, match=r'profile_steps=.* is not a range of steps'):
    check_steps(steps)
  check_steps(())
