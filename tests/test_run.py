"""The command line: what it says to a user who mistypes, and that help comes at once."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _run(*arguments):
  return subprocess.run(
    [sys.executable, 'run.py', *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'Add --config=configs/quickstart.py'),
    (['--config=configs/quickstart.py', '--config.batch_sise=3'], 'Did you mean "batch_size"'),
    (['--config=configs/quickstart.py', '--config.data.imag_size=3'], 'imag_size'),
    (['--config=configs/quickstart.py', '--config.batch_size=many'], 'config.batch_size=many'),
    (['--config=configs/quikstart.py'], 'configs/quikstart.py'),
    (['--config=configs/quickstart.py', '--mode=trian'], '<train|eval'),
    (['--config=configs/quickstart.py', '--workdri=x'], 'workdir'),
    (['--mode=export'], 'Add --workdir='),
    (['--mode=export', '--workdir=/nowhere'], '/nowhere holds no checkpoint to export'),
    (['--config=configs/quickstart.py', 'train'], "unexpected argument 'train'"),
    (['--config=configs/quickstart.py', '--config.data.data_dir=/nowhere'],
     'tfds build tfds_builders/imagenet_ab --config=local'),
  ],
)
def test_a_mistake_is_answered_in_one_line(arguments, message):
  result = _run(*arguments)
  assert result.returncode == 2
  assert message in result.stderr
  assert len(result.stderr.splitlines()) == 1, result.stderr


def test_help_needs_neither_jax_nor_tensorflow():
  result = subprocess.run(
    [sys.executable, '-X', 'importtime', 'run.py', '--help'], cwd=ROOT, capture_output=True,
    text=True, timeout=60,
  )
  assert '--workdir' in result.stdout and '--mode' in result.stdout
  imported = {line.split('|')[-1].strip() for line in result.stderr.splitlines()}
  assert 'ml_collections' in imported
  assert not imported & {'jax', 'tensorflow', 'flax', 'tensorflow_datasets'}
