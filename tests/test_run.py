"""The command line: one-line messages for mistakes, and help without slow imports."""

import os
import pathlib
import subprocess
import sys

import pytest

import run
from configs import default, quickstart
from luab_jax.errors import UserError
from luab_jax.tools import cli
from tests.command_checks import run_arguments

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
    (['--config.batch_size=3'], '--config.batch_size needs a --config, such as --config=configs/'),
    (['--config.batch_size=3', _QUICKSTART], 'before a value for --config was specified'),
    (['configs/quickstart.py'], 'options look like --config=configs/quickstart.py'),
    (['--config=configs/quickstart'], '--config=configs/quickstart: no such file; there are conf'),
    (['--config=imagenet_ab_resnet50'], 'there are configs/caltech_scenes.py, configs/clickme_'),
    (['--config='], '--config=: no such file; there are configs/caltech_scenes.py, '),
    ([_QUICKSTART, '--config.data.eval_splits=validation'], 'eval_splits is a dict'),
    ([_QUICKSTART, '--config.model=resnet18'], "'model' is a section of the config: set model."),
    ([_QUICKSTART, "--config.model={'name': 'resnet18'}"], "'model' is a section"),
    (
      [_QUICKSTART, '--config.batch_size=abc'],
      'config.batch_size=abc: batch_size is a whole number, as in ',
    ),
    ([_QUICKSTART, '--config.data.flip=perhaps'], 'data.flip is true or false, as in'),
    ([_QUICKSTART, '--config.model.name.x=3'], "no key 'model.name.x'; did you mean model.name"),
    ([_QUICKSTART, '--config.data.imag_size=3'], 'did you mean data.image_size, '),
    ([_QUICKSTART, '--config.point_weight=3'], 'did you mean loss.point_weight?\n'),
    (
      [_QUICKSTART, '--noconfig.data.flib'],
      "the config has no key 'data.flib'; did you mean data.",
    ),
    ([_QUICKSTART, '--config.batch-size=3'], "no key 'batch-size'; did you mean batch_size?\n"),
    ([_QUICKSTART, '--batch_size=3'], "line flag 'batch_size'; did you mean --config.batch_size?"),
    ([_QUICKSTART, '—config.seed=3'], 'options look like --config.seed=3'),
    ([_QUICKSTART, '--config.zzzz=3'], "the config has no key 'zzzz'; --help_config lists them"),
    ([_QUICKSTART, '--mode=trian'], '<train|eval'),
    ([_QUICKSTART, '--workdri=x'], 'workdir'),
    (['--mode=export'], 'Add --workdir='),
    (['--mode=predict', '--workdir=x', _QUICKSTART], 'takes the config of the run: leave --config'),
    (['--mode=predict', '--workdir=x'], 'which images?'),
    (['--mode=eval'], 'Add --config=configs/quickstart.py'),
    ([_QUICKSTART, 'train'], "unexpected argument 'train'"),
  ],
)
def test_a_mistake_gets_one_line(arguments, message):
  with pytest.raises(UserError) as error, run_arguments(['run.py', *arguments]) as rest:
    cli.check_arguments(run._MODE.value, run._CONFIG.value, run._WORKDIR.value, rest[1:])
  assert message in f'{error.value}\n' and '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([_QUICKSTART, '--config.batch_sise=3'], "no key 'batch_sise'; did you mean batch_size?\n"),
    (['--mode=eval', '--workdir=/nowhere'], '/nowhere holds no run: train first, or add --config='),
    pytest.param(
      [_QUICKSTART, '--config.data.data_dir=/nowhere'],
      'tfds build tfds_builders/imagenet_ab --config=local --manual_dir=FOLDER_OF_RAW_FILES '
      '--data_dir=/nowhere`; images of your own go through `python -m luab_jax.tools.own_data` '
      'first',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_the_process_ends_with_that_line(arguments, message):
  _answers(message, *arguments)


_CHANGED = 'from configs import quickstart\ndef get_config():\n  c = quickstart.get_config()\n  '


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (_CHANGED + 'c.batch_size = sise\n', "FILE: NameError: name 'sise' is not defined"),
    ('import mlcollections\n', "FILE: ModuleNotFoundError: No module named 'mlcollections'"),
    ('Two commands:\n', 'FILE: SyntaxError: invalid syntax (own.py, line 1)'),
    (_CHANGED + 'c.batch_sise = 3\n', 'FILE: AttributeError: Did you mean "batch_size"'),
    (_CHANGED + 'raise ValueError("a\\nb")\n', 'FILE: ValueError: b'),
    (_CHANGED + 'open("/nowhere")\n', 'FILE: get_config() failed or did not return a ConfigDict'),
    (_CHANGED + 'c.seed = 1\n', 'FILE: get_config() failed or did not return a ConfigDict'),
    ('c = {}\n', "has no attribute 'get_config'"),
  ],
)
def test_a_mistake_in_a_config_file_gets_one_line(tmp_path, monkeypatch, text, message):
  file = tmp_path / 'own.py'
  file.write_text(text)
  monkeypatch.setattr(sys, 'argv', ['run.py'])
  monkeypatch.delitem(sys.modules, 'config_config', raising=False)  # ml_collections' name for it
  with pytest.raises(UserError) as error:
    cli.ConfigParser('config').parse(str(file))
  assert message.replace('FILE', str(file)) in str(error.value)
  assert '\n' not in str(error.value)


def test_an_own_config_file_may_lie_anywhere(tmp_path):
  file = tmp_path / 'own.py'
  file.write_text(_CHANGED + 'c.data.data_dir = "/of_own"\n  return c\n')
  result = _run(f'--config={file}', '--config.data.image_size=32', '--help_config')
  assert "data.data_dir = '/of_own'\n    Folder" in result.stdout
  assert 'data.image_size = 32\n    Side of' in result.stdout
  assert result.returncode == 0


def test_the_config_of_a_run_is_read_as_it_was_written(tmp_path):
  config = quickstart.get_config()
  config.batch_size = 7
  (tmp_path / 'config.json').write_text(config.to_json_best_effort())
  assert cli.read_run_config(tmp_path, default.get_config()) == config
  for text in ('{', '{"data": {"eval_splits": {}}, "batch_sise": 3}', '[]'):
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(UserError, match='config.json is not a config of this version'):
      cli.read_run_config(tmp_path, default.get_config())


@pytest.mark.slow
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
