"""Checks that programs accept the documented commands, without running them. Not a test itself."""

import ast
import contextlib
import importlib.util
import json
import re
import subprocess
import sys

import simple_parsing
from absl import flags

import run
from benchmarks.__main__ import BENCHMARKS
from luab_jax.errors import UserError
from luab_jax.tools import cli
from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.composites import __main__ as composites
from luab_jax.tools.own_data import __main__ as own_data
from luab_jax.tools.synthetic import __main__ as synthetic
from tests.documents import ROOT
from tfds_builders import build
from tfds_builders.clickme import download


@contextlib.contextmanager
def run_arguments(argv):
  """Parses run.py's flags as a new process would; yields the remaining arguments."""
  before, values = sys.argv, flags.FLAGS
  for name in [name for name in values if name.startswith('config.')]:
    delattr(values, name)
  values.unparse_flags()
  sys.argv = argv  # config_flags looks for overrides there
  try:
    yield cli.parse(argv)
  finally:
    sys.argv = before


def _check_run(args):
  args = [re.sub(r'^--config=(…|\.\.\.)$', '--config=configs/quickstart.py', arg) for arg in args]
  args = [arg for arg in args if arg not in ('…', '...')]
  if '--help' in args:
    return
  with run_arguments(['run.py', *args]) as rest:
    if args and not run._HELP_CONFIG.value:
      cli.check_arguments(run._MODE.value, run._CONFIG.value, run._WORKDIR.value, rest[1:])


def _check_script(path, args):
  """Checks options against the script's source: importing it could configure this process."""
  known = {
    word.value
    for file in (path, ROOT / 'benchmarks/harness.py')
    for call in ast.walk(ast.parse(file.read_text()))
    if isinstance(call, ast.Call) and getattr(call.func, 'attr', '') == 'add_argument'
    for word in call.args
    if isinstance(word, ast.Constant)
  }
  unknown = {arg.partition('=')[0] for arg in args if arg.startswith('-')} - known - {'--help'}
  if unknown:
    raise UserError(f'{path.name} has no option {sorted(unknown)}')


def _check_tfds(args):
  from tensorflow_datasets.scripts.cli import build as tfds_build

  if args[:1] == ['convert_format']:  # executed by test_documented_commands
    return
  if args[:1] != ['build']:
    raise UserError(f'tfds {args[:1]}')
  parser = simple_parsing.ArgumentParser()
  parser.add_arguments(tfds_build.Args, dest='args')
  parsed = parser.parse_args([arg for arg in args[1:] if arg not in ('…', '...')]).args
  for name in parsed.positional_datasets:
    builder, _ = tfds_build._get_builder_cls_and_kwargs(name, has_imports=False)
    config = parsed.generation.config
    if config and config.startswith('{'):
      builder.builder_config_cls(**json.loads(config))
    elif config and config not in builder.builder_configs:
      raise UserError(f'{name} has no config {config}')


def check(command):
  """Raises if the program would not accept the command. Nothing is executed."""
  program, *args = command.words
  if program == 'make':
    subprocess.run(['make', '-n', *args], cwd=ROOT, check=True, capture_output=True)
  elif program == 'source':
    if args != ['.venv/bin/activate']:
      raise UserError(f'source {args}')
  elif program == 'tfds':
    _check_tfds(args)
  elif args[0] == '-m':
    _check_module(args[1], args[2:])
  elif args[0] == 'run.py':
    _check_run(args[1:])
  else:
    _check_script(ROOT / args[0], args[1:])


def _check_module(name, args):
  """`check` of a `python -m` command."""
  if name == 'benchmarks':
    if args and args[0] != 'NAME':
      if args[0] not in BENCHMARKS:
        raise UserError(f'no benchmark {args[0]}')
      _check_script(ROOT / 'benchmarks' / f'{args[0]}.py', args[1:])
  elif name.startswith('tests.stress.'):
    _check_script(ROOT / name.replace('.', '/') / '__main__.py', args)
  elif name in _PARSERS:
    if args and args != ['--help']:
      _PARSERS[name](args)
  elif importlib.util.find_spec(name) is None:
    raise UserError(f'no module {name}')


_PARSERS = {
  'luab_jax.tools.synthetic': synthetic.parse_arguments,
  'luab_jax.tools.composites': composites.parse_arguments,
  'luab_jax.tools.annotate': annotate.parse_arguments,
  'luab_jax.tools.own_data': own_data.parse_arguments,
  'tfds_builders.build': build.parse_args,
  'tfds_builders.clickme.download': download.parse_args,
}
