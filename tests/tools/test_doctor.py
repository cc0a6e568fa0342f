"""--mode=doctor: a machine that is ready, and each thing that it finds to be mended."""

import os
import types

import jax
import numpy as np
import pytest
from absl import flags

from configs import quickstart
from luab_jax.data import image_ops
from luab_jax.errors import UserError
from luab_jax.tools import cli, doctor, self_check


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """A machine without accelerators and with an empty home; the self test is not repeated on it."""
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')  # as conftest.py started JAX
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  for name in ('JAX_PLATFORMS', 'TPU_NAME', 'TPU_WORKER_ID'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
  monkeypatch.setattr(doctor.glob, 'glob', lambda pattern: [])
  for name in ('check_step', 'check_pipeline'):
    monkeypatch.setattr(self_check, name, lambda: 'not repeated')
  return tmp_path


def _nvidia_smi(machine, says, status=0):
  (machine / 'bin').mkdir()
  path = machine / 'bin' / 'nvidia-smi'
  path.write_text(f'#!/bin/sh\necho "{says}"\nexit {status}\n')
  path.chmod(0o755)


def _config(data_dir):
  config = quickstart.get_config()
  config.data.data_dir = str(data_dir)
  config.data.train_split = 'train'
  return config


def test_a_machine_that_is_ready(synthetic_imagenet_ab, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '8')
  assert doctor.examine(_config(synthetic_imagenet_ab), tmp_path / 'run') == 0
  said = capsys.readouterr().out
  assert said.splitlines()[-1] == 'ready' and 'MEND' not in said
  assert f'jax {jax.__version__}' in said and f'numpy {np.__version__}' in said
  assert 'devices: 8 x cpu (platform cpu), 8 of them here, 1 process(es)' in said
  assert 'TensorFlow sees: no accelerator' in said
  assert 'imagenet_ab/local 1.0.0: train 96, uncorrelated 40, validation 40 examples; 0.' in said
  assert 'GB free, to be made' in said and os.environ['JAX_COMPILATION_CACHE_DIR'] in said
  assert 'one training step on 8 device(s): loss 1.' in said and 'a JPEG decoded' in said
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('driver', 'status', 'platforms', 'ready', 'says'),
  [
    ('580.65', 0, '', 2, f'pip install "jax[cuda13]=={jax.__version__}"'),
    ('550.54', 0, '', 2, f'pip install "jax[cuda12]=={jax.__version__}"'),
    ('580.65', 0, 'cpu', 0, 'JAX_PLATFORMS=cpu keeps JAX from it'),
    ('580.65', 9, '', 0, 'nvidia-smi fails'),
  ],
)
def test_gpus_that_jax_does_not_use(
  machine, monkeypatch, capsys, driver, status, platforms, ready, says
):
  _nvidia_smi(machine, f'NVIDIA H100, {driver}', status)
  if platforms:
    monkeypatch.setenv('JAX_PLATFORMS', platforms)
  assert doctor.examine(None, machine) == ready
  said = capsys.readouterr().out
  assert says in said and said.splitlines()[-1].startswith('not ready' if ready else 'ready')


def test_what_to_mend_first(machine, monkeypatch, capsys):
  monkeypatch.setenv('TPU_WORKER_ID', '0')
  config = _config(machine / 'nowhere')
  config.batch_size = 12
  file = machine / 'file'
  file.write_text('')
  assert doctor.examine(config, file / 'run') == 2
  lines = capsys.readouterr().out.splitlines()
  assert [line.split(':')[0] for line in lines if 'MEND' in line] == 4 * ['  MEND']
  mends = [line for line in lines if 'MEND' in line]
  for line, part in zip(
    mends,
    (
      'jax[tpu]==',
      'batch_size=12 does not divide by 8 devices',
      'cannot be written',
      'tfds build tfds_builders/imagenet_ab',
    ),
    strict=True,
  ):
    assert part in line
  assert lines[-1] == mends[0].replace('  MEND: ', 'not ready; mend first: ')


def test_two_builds_of_tensorflow_and_a_missing_package(machine, monkeypatch, capsys):
  monkeypatch.syspath_prepend(machine)
  for name in ('tensorflow', 'tensorflow_tpu'):
    folder = machine / f'{name}-2.21.0.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 2.21.0\n')
  assert doctor.examine(None, machine) == 0
  assert (
    'note: tensorflow-tpu takes the TPU away from JAX: pip uninstall -y tensorflow-cpu '
    'tensorflow tensorflow-tpu;'
  ) in capsys.readouterr().out
  monkeypatch.setattr(doctor, '_PACKAGES', ('jax', 'no-such-package'))
  assert doctor.examine(None, machine) == 2
  assert 'mend first: no-such-package is not installed' in capsys.readouterr().out


def test_a_damaged_data_set_is_noted_and_a_full_disk_is_to_be_mended(machine, monkeypatch, capsys):
  folder = machine / 'home' / 'tensorflow_datasets' / 'coco_ab' / 'local' / '1.0.0'
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text('{')
  monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=1e9))
  assert doctor.examine(None, machine) == 2
  said = capsys.readouterr().out
  assert f'note: the metadata in {folder} cannot be read' in said
  assert said.splitlines()[-1].endswith('free: make room, or choose another --workdir')


def test_a_self_test_that_fails_is_to_be_mended(machine, monkeypatch, capsys):
  def broken():
    raise jax.errors.JaxRuntimeError('INTERNAL: no kernel image')

  monkeypatch.setattr(self_check, 'check_step', broken)
  assert doctor.examine(None, machine) == 2
  assert 'mend first: the self test fails (JaxRuntimeError: INTERNAL' in capsys.readouterr().out


def test_the_self_test_notices_wrong_results(monkeypatch):
  def result(loss, weight):
    return types.SimpleNamespace(params={'w': np.full(3, weight)}), {'loss': (loss, 1.0)}

  assert 'loss 1.5' in self_check._compared(result(1.5, 2.0), result(1.5, 2.0))
  for together, says in (
    ((np.nan, 2.0), 'the loss nan'),
    ((1.51, 2.0), 'do not work together'),
    ((1.5, 2.01), 'do not work together'),
  ):
    with pytest.raises(UserError, match=says):
      self_check._compared(result(*together), result(1.5, 2.0))
  decode = image_ops.decode_window

  def mirrored(data, choose):
    image, *rest = decode(data, choose)
    return image[:, ::-1], *rest

  monkeypatch.setattr(image_ops, 'decode_window', mirrored)
  with pytest.raises(UserError, match='other pixels'):
    self_check.check_pipeline()


def test_the_command_needs_no_config(machine, monkeypatch, capsys):
  import run

  monkeypatch.chdir(machine)
  try:
    cli.parse(['run.py', '--mode=doctor'])
    assert run.main(['run.py']) == 0
    assert 'data sets in ~/tensorflow_datasets: none' in capsys.readouterr().out
  finally:
    flags.FLAGS.unparse_flags()
