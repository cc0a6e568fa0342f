"""Every command and snippet in the documents is accepted by the real parser, and either executed
here with tiny settings or marked 'needs data' (see documents.read_markdown).

`make quickstart` trains. Other run.py commands that train or evaluate stop before the first step,
once the data are opened and the model is built.

Executed by other tests: studies (test_study), benchmarks in tiny form (test_benchmarks), notebooks
(test_notebooks), `tfds build` (test_build), the doctor (test_doctor), the annotation demo
(test_server_faults). `pip install` and lines of other programs are not checked.
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys

import pytest
from absl import logging

import run
from luab_jax.errors import UserError
from luab_jax.tools.synthetic import __main__ as synthetic
from luab_jax.train import experiment
from tests import documents
from tests.command_checks import check, run_arguments
from tests.documents import ROOT, parse_command, read_markdown
from tfds_builders import build

_TRAINED = 'runs/quickstart'  # the workdir of `make quickstart`, the only command that trains
_TINY_RELEASE = ['--train=48', '--validation=24', '--size=32']
_TINY_RUN = [
  '--config.batch_size=32',  # as in short_run.py, whose compiled evaluation is reused
  '--config.total_steps=2',
  '--config.eval_every_epochs=0.0',
  '--config.data.image_size=32',
  '--config.data.eval_resize=32',
]


def _mistakes(page, monkeypatch):
  monkeypatch.chdir(ROOT)
  found = []
  for command in page.commands:
    said = io.StringIO()
    try:
      with contextlib.redirect_stderr(said):
        check(command)
    except (
      UserError,
      SystemExit,
      OSError,
      ValueError,
      LookupError,
      ImportError,
      TypeError,
      subprocess.CalledProcessError,
      argparse.ArgumentError,
    ) as error:
      found.append(f'{" ".join(command.words)}: {error} {said.getvalue()[-300:]}')
  return found


def _parameters(paths):
  names = {path: path.relative_to(ROOT).as_posix() for path in paths}
  return [pytest.param(path, id=name) for path, name in names.items()]


@pytest.mark.parametrize(
  'path', _parameters([*documents.PAGES, *documents.CONFIGS, *documents.NOTEBOOKS])
)
def test_every_command_is_understood(path, monkeypatch):
  read = {
    '.md': documents.read_page,
    '.py': documents.read_docstring,
    '.ipynb': documents.read_notebook,
  }[path.suffix]
  assert _mistakes(read(path), monkeypatch) == []


def _stage(command):
  """The stage in which a command is executed here; None if it is not."""
  program, *args = command.words
  if command.is_form or command.marked:
    return None
  if command.words[:2] == ('tfds', 'convert_format'):
    return 2
  if program != 'python':
    return None
  if args[:2] == ['-m', 'luab_jax.tools.synthetic'] and len(args) > 2:
    return 0
  if args[:2] == ['-m', 'tfds_builders.build'] and len(args) > 2:
    return 1
  if args[0] == 'run.py' and '--config=configs/quickstart' in ' '.join(args):
    return None if '--mode=study' in args else 3 if '--mode=eval' in args else 2
  return 4 if args[0] == 'run.py' and f'--workdir={_TRAINED}' in args else None


def _needs_no_data(command):
  """Whether a command may be unmarked: it is executed, here or elsewhere, or cannot be."""
  program, *args = command.words
  if program in ('make', 'source') or command.is_form or command.marked:
    return True
  tools = (['-m', 'luab_jax.tools.own_data'], ['-m', 'luab_jax.tools.annotate'])
  if (program == 'tfds' and args[0] == 'build') or args[:2] in tools:
    return len(args) < 3 or '--help' in args or args[2] == 'demo'
  if args[0] == 'run.py':
    ours = re.search(r'--config=configs/quickstart|--mode=doctor|--help', ' '.join(args))
    return _stage(command) is not None or len(args) == 1 or bool(ours)
  return True


@pytest.mark.parametrize('path', _parameters(documents.PAGES))
def test_what_is_not_executed_is_marked_needs_data(path):
  page = documents.read_page(path)
  assert [' '.join(c.words) for c in page.commands if not _needs_no_data(c)] == []


def _execute(command):
  program, *args = command.words
  if program == 'tfds':
    # In its own process: TFDS does not record the second format if it knows the builder's class.
    words = [
      '-m',
      'tensorflow_datasets.scripts.cli.main',
      *(arg.replace('$PWD', os.getcwd()) for arg in args),
    ]
    subprocess.run([sys.executable, *words], check=True)
  elif args[:2] == ['-m', 'luab_jax.tools.synthetic']:
    synthetic.main([*args[2:], *_TINY_RELEASE])
  elif args[:2] == ['-m', 'tfds_builders.build']:
    assert build.main(args[2:]) == 0, args
  else:
    config = any(arg.startswith('--config=') for arg in args)
    tiny = [*_TINY_RUN, f'--config.report_images={int("--mode=plot" in args)}'] if config else []
    with run_arguments([*args, *tiny]) as rest:
      training = run._MODE.value in ('train', 'eval') and not run._HELP_CONFIG.value
      if training and (config and run._WORKDIR.value != _TRAINED):
        # Checks everything that could be wrong: options, data, splits, model, schedules.
        experiment.Experiment(run._CONFIG.value)
      else:
        assert run.main(rest) == 0, args


@pytest.fixture(scope='module')
def executed(tmp_path_factory):
  """A checkout in which all commands of all pages have been run, `make quickstart` first."""
  folder = tmp_path_factory.mktemp('checkout')
  (folder / 'configs').symlink_to(ROOT / 'configs')
  made = subprocess.run(
    ['make', '-n', '-B', 'quickstart'], cwd=ROOT, check=True, capture_output=True, text=True
  )
  lines = re.findall(r'.* (?:-m (?:luab_jax|tfds_builders)|run\.py).*', made.stdout)
  commands = [parse_command(line) for line in lines]
  assert [_stage(command) for command in commands] == [0, 1, 2]
  for path in documents.PAGES:
    commands += documents.read_page(path).commands
  stages = {c.words: _stage(c) for c in commands if _stage(c) is not None}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setenv('JAX_NUM_CPU_DEVICES', '8')  # as in conftest.py
    for words in sorted(stages, key=stages.get):
      _execute(documents.Command(words))
  return folder


@pytest.mark.slow
def test_every_unmarked_command_works(executed):
  assert (executed / 'runs/quickstart/summary.json').is_file()


@pytest.mark.slow
def test_modes_that_ran_in_this_process_silence_no_later_test(executed, caplog):
  logging.warning('said')
  assert caplog.messages == ['said']


@pytest.mark.slow
@pytest.mark.parametrize(
  'path', _parameters([path for path in documents.PAGES if documents.read_page(path).python])
)
def test_unmarked_python_works(path, executed, monkeypatch):
  monkeypatch.chdir(executed)
  for source, marked in documents.read_page(path).python:
    if not marked:
      exec(compile(source, f'{path.name}: {source.splitlines()[0]}', 'exec'), {})


def test_wrong_commands_are_noticed(monkeypatch):
  wrong = [
    'python run.py --config=configs/quickstart.py --config.batch_sise=3',
    'python run.py --config=configs/quickstart.py --config.batch_size=many',
    'python run.py --config=configs/quikstart.py',
    'python run.py --mode=trian',
    'python run.py --config=configs/quickstart.py --wokdir=x',
    'python run.py --workdir=x',
    'python -m luab_jax.tools.synthetic --release=imagenet',
    'python -m luab_jax.nothing --x=3',
    'python -m tfds_builders.build imagenet_ab/lokal --manual_dir=x',
    'python -m benchmarks nothing',
    'python -m benchmarks step --round=3',
    'python -m tests.stress.fuzz --input=3',
    'python -m luab_jax.tools.own_data --image=x --out=y',
    'python -m luab_jax.tools.annotate exprot x --out=y',
    'python -m luab_jax.tools.annotate init --task=grids --images=x --out=y',
    'tfds build tfds_builders/imagenet_ab --config=ilsvrc',
    'tfds build imagenet_ab_xyz',
    'tfds build imagenet_a --manualdir=x',
    'make nothing',
    'source bin/activate',
  ]
  page = read_markdown('```\n' + '\n'.join(wrong) + '\n```')
  assert len(page.commands) == len(wrong)
  assert len(_mistakes(page, monkeypatch)) == len(wrong)


def test_where_a_mark_holds():
  text = """
`make a`, and `python run.py
--x`.

This one needs data:

```
python run.py --a \\
  --b  # comment
echo no
$ JAX_DISTRIBUTED=1 python3 run.py
```

```
tfds build x
```

| x | `python run.py --row` |
| needs data | `python run.py --marked` |

# Real data (needs data)
## below
`tfds build y --manual_dir=RAW`
# next
```python
x = 1
```
`python run.py --config=…`
"""
  page = read_markdown(text)
  assert [(' '.join(c.words), c.marked) for c in page.commands] == [
    ('make a', False),
    ('python run.py --x', False),
    ('python run.py --a --b', True),
    ('python run.py', True),
    ('tfds build x', True),
    ('python run.py --row', False),
    ('python run.py --marked', True),
    ('tfds build y --manual_dir=RAW', True),
    ('python run.py --config=…', False),
  ]
  assert [c.is_form for c in page.commands[-2:]] == [True, True]
  assert not page.commands[0].is_form and page.python == [('x = 1', False)]
