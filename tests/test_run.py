"""The command line: what it says to a user who mistypes, and that help comes at once."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


_QUICKSTART = '--config=configs/quickstart.py'


def _run(*arguments, **environment):
  return subprocess.run(
    [sys.executable, 'run.py', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, **environment},
  )


def _answers(message, *arguments, **environment):
  result = _run(*arguments, **environment)
  assert result.returncode == 2
  assert message in result.stderr
  assert len(result.stderr.splitlines()) == 1, result.stderr
  return result.stderr


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'Add --config=configs/quickstart.py'),
    (['--config.batch_size=3'], '--config is missing: add --config=configs/quickstart.py'),
    (['--config.batch_size=3', _QUICKSTART], 'before a value for --config was specified'),
    (['configs/quickstart.py'], 'options look like --config=configs/quickstart.py'),
    (['--config=configs/quickstart'], '--config=configs/quickstart: there is no such file; there'),
    (['--config=imagenet_ab_resnet50'], 'there are configs/coco_ab_resnet50.py, configs/imagenet'),
    (['--config=configs/'], '--config=configs/: there is no such file; there are configs/coco_ab'),
    (['--config='], '--config=: there is no such file; there are configs/coco_ab_resnet50.py, '),
    (
      [_QUICKSTART, '--config.data.eval_splits=validation'],
      "--config.data.eval_splits=\"{'validation': 'validation'}\"\n",
    ),
    (
      [_QUICKSTART, '--config.model=resnet18'],
      'run.py: --config.model=resnet18: model is a section of the config, which cannot be replaced'
      ': set its keys, such as --config.model.name=resnet18\n',
    ),
    ([_QUICKSTART, '--config.loss=3'], 'such as --config.loss.'),
    (
      [_QUICKSTART, "--config.model={'name': 'resnet18'}"],
      "--config.model=… leaves the config without 'model.dtype', 'model.head', 'model.norm",
    ),
    (
      [_QUICKSTART, '--config.batch_size=abc'],
      '--config.batch_size=abc: must be of type int, such as 64 in the config\n',
    ),
    ([_QUICKSTART, '--config.data.flip=perhaps'], 'perhaps: must be of type bool, such as True'),
    ([_QUICKSTART, '--config.model.name.x=3'], 'no such key in the config'),
    ([_QUICKSTART, '--config.batch_sise=3'], 'Did you mean "batch_size"'),
    ([_QUICKSTART, '--config.data.imag_size=3'], 'imag_size'),
    ([_QUICKSTART, '--config.batch_size=many'], 'config.batch_size=many'),
    (['--config=configs/quikstart.py'], 'configs/quikstart.py'),
    ([_QUICKSTART, '--mode=trian'], '<train|eval'),
    ([_QUICKSTART, '--workdri=x'], 'workdir'),
    (['--mode=export'], 'Add --workdir='),
    (['--mode=export', '--workdir=/nowhere'], '/nowhere holds no checkpoint to export'),
    ([_QUICKSTART, 'train'], "unexpected argument 'train'"),
    (
      [_QUICKSTART, '--config.data.data_dir=/nowhere'],
      'tfds build tfds_builders/imagenet_ab --config=local --manual_dir=FOLDER_OF_RAW_FILES '
      '--data_dir=/nowhere`; images of your own go through `python -m luab_jax.tools.own_data` '
      'first',
    ),
  ],
)
def test_a_mistake_is_answered_in_one_line(arguments, message):
  _answers(message, *arguments)


_CHANGED = 'from configs import quickstart\ndef get_config():\n  c = quickstart.get_config()\n  '


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (_CHANGED + 'c.batch_size = sise\n', "FILE:4: NameError: name 'sise' is not defined"),
    ('\nimport mlcollections\n', "FILE:2: ModuleNotFoundError: No module named 'mlcollections'"),
    ('# Read me\n\nTwo commands:\n', 'FILE:3: SyntaxError: invalid syntax'),
    (_CHANGED + 'c.lock()\n  c.batch_sise = 3\n', 'FILE:5: AttributeError: '),
    (_CHANGED + 'raise ValueError("a\\nb")\n', 'FILE:4: ValueError: a; b'),
    (_CHANGED + 'open("/nowhere")\n', 'FILE:4: FileNotFoundError: '),
    ('c = {}\n', 'FILE has no function get_config(): see configs/quickstart.py'),
    (_CHANGED + 'c.seed = 1\n', 'get_config() of FILE returns NoneType, not an ml_collections.Con'),
    (
      _CHANGED + 'del c.optimizer\n  return c\n',
      "FILE lacks 'optimizer': copy it from configs/quickstart.py",
    ),
    (
      _CHANGED + 'del c.optimizer.ema_decay, c.seed\n  return c\n',
      "FILE lacks 'optimizer.ema_decay', 'seed': copy it from configs/quickstart.py",
    ),
    (
      _CHANGED + 'c = c.copy_and_resolve_references()\n  del c.loss\n  c.loss = 3\n  return c\n',
      "FILE lacks 'loss.label_smoothing', ",
    ),
    (
      _CHANGED + 'c.batch_sise, c.data.imagesize = 3, 32\n  return c\n',
      "FILE has 'batch_sise', 'data.imagesize', which nothing reads: configs/quickstart.py has all",
    ),
  ],
)
def test_a_mistake_in_an_own_config_file_is_told_with_its_line(tmp_path, text, message):
  file = tmp_path / 'own.py'
  file.write_text(text)
  _answers(f'run.py: {message}'.replace('FILE', str(file)), f'--config={file}', '--config.seed=4')


def test_an_own_config_file_is_taken(tmp_path):
  file = tmp_path / 'own.py'
  file.write_text(_CHANGED + 'c.data.data_dir = "/of_own"\n  return c\n')
  # The next mistake is of the overrides, which come after the file.
  _answers("unexpected argument 'x'", f'--config={file}', '--config.data.image_size=32', 'x')
  _answers("'imagesize'", f'--config={file}', '--config.data.imagesize=32')


@pytest.mark.parametrize(
  ('environment', 'message'),
  [
    ({'JAX_DISTRIBUTED': '1'}, 'JAX detects no Slurm, Open MPI or Cloud TPU here'),
    ({'JAX_PLATFORMS': 'cuda'}, 'JAX_PLATFORMS=cuda does not start here'),
  ],
)
def test_a_machine_that_lacks_what_is_asked_for_is_told(environment, message):
  assert 'see "Machines" in docs/running.md' in _answers(message, _QUICKSTART, **environment)


def test_help_needs_neither_jax_nor_tensorflow():
  result = subprocess.run(
    [sys.executable, '-X', 'importtime', 'run.py', '--help'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert '--workdir' in result.stdout and '--mode' in result.stdout
  imported = {line.split('|')[-1].strip() for line in result.stderr.splitlines()}
  assert 'ml_collections' in imported
  assert not imported & {'jax', 'tensorflow', 'flax', 'tensorflow_datasets'}
