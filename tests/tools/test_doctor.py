"""--mode=doctor: a machine that is ready, and each problem that can be found."""

import types

import jax
import numpy as np
import pytest

import run
from configs import quickstart
from luab_jax.errors import UserError
from luab_jax.tools import doctor, self_check
from tests.command_checks import run_arguments


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """A machine without accelerators and with an empty home; skips the check of a training step."""
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # as conftest.py started JAX
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setattr(doctor.glob, 'glob', lambda pattern, **_: [])
  monkeypatch.setattr(self_check, 'check_step', lambda: 'not repeated')
  return tmp_path


def _config(data_dir):
  config = quickstart.get_config()
  config.data.data_dir = str(data_dir)
  config.data.train_split = 'train'
  return config


@pytest.mark.slow
def test_a_machine_that_is_ready(synthetic_imagenet_ab, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')
  assert doctor.examine(_config(synthetic_imagenet_ab), tmp_path / 'run') == 0
  out = capsys.readouterr().out
  assert out.splitlines()[-1] == 'ready' and 'FIX' not in out
  assert f'jax {jax.__version__}' in out and f'numpy {np.__version__}' in out
  assert 'devices: 8 x cpu (platform cpu), 8 of them on this host, 1 process(es)' in out
  assert 'sees no accelerator' in out and 'GB free' in out
  assert 'data: imagenet_ab/local, uncorrelated: 40 examples' in out
  assert 'training step: loss 1.' in out and 'on 8 device(s)' in out
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('file', 'platforms', 'status', 'message'),
  [
    ('/dev/nvidia[0-9]*', '', 2, 'an NVIDIA GPU, but JAX runs on its CPU: pip install -e ".[cuda'),
    ('/dev/accel*', '', 2, 'a TPU, but JAX runs on its CPU: pip install -e ".[tpu]"'),
    ('/dev/nvidia[0-9]*', 'cpu', 0, 'platform cpu'),
  ],
)
def test_an_accelerator_that_jax_does_not_use(
  machine, monkeypatch, capsys, file, platforms, status, message
):
  monkeypatch.setattr(doctor.glob, 'glob', lambda pattern: [pattern] if pattern == file else [])
  if platforms:
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
  assert doctor.examine(None, machine) == status
  assert message in capsys.readouterr().out


def test_the_first_problem_is_to_be_fixed_first(machine, monkeypatch, capsys):
  monkeypatch.setattr(doctor, '_PACKAGES', ('jax', 'no-such-package'))
  config = _config(machine / 'nowhere')
  config.batch_size = 12
  (machine / 'file').write_text('')
  assert doctor.examine(config, machine / 'file' / 'run') == 2
  lines = capsys.readouterr().out.splitlines()
  problems = [line.removeprefix('  FIX: ') for line in lines if line.startswith('  FIX: ')]
  for problem, message in zip(
    problems,
    (
      'no-such-package is not installed',
      'batch_size=12 is not divisible by 8 devices',
      'cannot be written',
      'tfds build tfds_builders/imagenet_ab',
    ),
    strict=True,
  ):
    assert message in problem
  assert lines[-1] == f'not ready; fix first: {problems[0]}'


def test_a_full_disk_and_a_step_that_fails(machine, monkeypatch, capsys):
  def broken():
    raise jax.errors.JaxRuntimeError('INTERNAL: no kernel image')

  monkeypatch.setattr(self_check, 'check_step', broken)
  monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=1e9))
  assert doctor.examine(None, machine) == 2
  out = capsys.readouterr().out
  assert 'has less than 2 GB free: free some space, or change --workdir' in out
  assert 'FIX: a training step fails (INTERNAL: no kernel image)' in out


def test_a_step_with_wrong_results_is_a_problem():
  def result(loss, weight):
    return types.SimpleNamespace(params={'w': np.full(3, weight)}), {'loss': (loss, 1.0)}

  assert 'loss 1.5' in self_check._compare(result(1.5, 2.0), result(1.5, 2.0))
  for on_all, message in (
    ((np.nan, 2.0), 'a loss of nan'),
    ((1.51, 2.0), 'do not work together'),
    ((1.5, 2.01), 'do not work together'),
  ):
    with pytest.raises(UserError, match=message):
      self_check._compare(result(*on_all), result(1.5, 2.0))


@pytest.mark.slow
def test_the_command_needs_no_config(machine, monkeypatch, capsys):
  monkeypatch.chdir(machine)
  with run_arguments(['run.py', '--mode=doctor']) as rest:
    assert run.main(rest) == 0
  assert 'data sets in ~/tensorflow_datasets: none' in capsys.readouterr().out
