"""The command line of run.py: config files, overrides, one-line errors and exit statuses."""

import contextlib
import functools
import glob
import json
import os
import pathlib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from luab_jax.errors import UserError
from luab_jax.tools import overrides


class ConfigParser(config_flags.config_flags.ConfigFileFlagParser):
  """ml_collections' parser of --config, with one-line errors for a bad file or override."""

  def parse(self, argument: str) -> ConfigDict:
    """Returns the locked config of 'FILE' or 'FILE:ARGUMENT', the argument of get_config.

    Raises:
      UserError: the file is missing or fails, or an override is wrong.
    """
    path = argument.partition(':')[0]
    if not os.path.isfile(path):
      found = ', '.join(sorted(glob.glob('configs/[!_]*.py'))) or 'none in configs/'
      raise UserError(f'--config={path}: no such file; there are {found}')
    try:
      config = super().parse(argument)
    except Exception as error:  # the file is the user's code, which may raise anything
      raise UserError(f'{path}: {_last_line(error)}') from error
    if not isinstance(config, ConfigDict):
      raise UserError(
        f'{path}: get_config() failed or did not return a ConfigDict: see configs/default.py'
      )
    overrides.check(flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=True), config)
    return config


def _last_line(error: BaseException) -> str:
  """The last line of an exception's traceback."""
  name = type(error).__name__
  if error.args and isinstance(error.args[0], KeyError):
    error = error.args[0]  # ConfigDict wraps it in an AttributeError
  line = str(error.args[0] if len(error.args) == 1 else error).strip().rpartition('\n')[2]
  return line if line.startswith(name) else f'{name}: {line}'


def describe(config: ConfigDict, source: str) -> str:
  """Lists the keys of a config, each with its value and its comment.

  Args:
    config: the config to describe.
    source: text of configs/default.py, where each key's comment stands above it.
  """
  keys, comment, lines = overrides.flatten(config), '', []
  wrap = functools.partial(textwrap.wrap, width=96, break_on_hyphens=False)
  for line in map(str.strip, source.splitlines()):
    if key := re.match(r'c\.([\w.]+) = ', line):
      if key[1] in keys:
        lines.append(f'{key[1]} = {keys[key[1]]!r}')
        lines += wrap(comment, initial_indent='    ', subsequent_indent='    ')
      else:
        lines += ['', *wrap(f'{key[1]}: {comment}')]
    comment = f'{comment} {line[2:]}'.strip() if line.startswith('# ') else ''
  return '\n'.join(lines)


def parse(argv: list[str]) -> list[str]:
  """Parses the flags and returns the remaining arguments; raises UserError for a wrong flag."""
  flags.FLAGS.set_gnu_getopt()  # options may follow the images of --mode=predict
  try:
    return flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:
    text = ' '.join(str(error).split())
    if isinstance(error, flags.UnrecognizedFlagError):
      config = flags.FLAGS['config'].value
      if config:
        text += overrides.suggest_flag(error.flagname, overrides.flatten(config))
      elif error.flagname.startswith('config.'):
        text = (
          f'--{error.flagname} needs a --config, such as --config=configs/quickstart.py, before it'
        )
    raise UserError(f'{text} (see `python run.py --help`)') from error


def check_arguments(
  mode: str, config: ConfigDict | None, workdir: str | None, images: list[str]
) -> None:
  """Raises UserError if a mode lacks an argument or got one that it does not take."""
  if mode != 'predict' and images:
    like = f'--config={images[0]}' if images[0].endswith('.py') else '--mode=eval'
    if key := re.match(r'\W*(config\.\w.*)', images[0]):  # no dashes, or an em dash
      like = f'--{key[1]}'
    raise UserError(f'unexpected argument {images[0]!r}; options look like {like}')
  if mode in ('export', 'predict'):
    if not workdir:
      raise UserError('which run? Add --workdir=runs/quickstart (or another one)')
    if config:
      raise UserError(f'--mode={mode} takes the config of the run: leave --config out')
  elif not config and (mode in ('train', 'study') or (mode in ('eval', 'plot') and not workdir)):
    raise UserError('which experiment? Add --config=configs/quickstart.py (or another file there)')
  if mode == 'predict' and not images:
    raise UserError('which images? Name files or folders: --mode=predict --workdir=RUN a.jpg b/')


def default_workdir(mode: str) -> str:
  """runs/NAME of --config=configs/NAME.py; for a study runs/NAME_study."""
  name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  return f'runs/{name}_study' if mode == 'study' else f'runs/{name}'


def read_run_config(workdir: str, config: ConfigDict) -> ConfigDict:
  """Returns the config that a run was started with.

  Args:
    workdir: folder of the run.
    config: the defaults, updated in place.

  Raises:
    UserError: there is no run, or its config.json cannot be read.
  """
  path = pathlib.Path(workdir) / 'config.json'
  if not os.path.exists(path):
    raise UserError(f'{workdir} holds no run: train first, or add --config=configs/quickstart.py')
  try:
    saved = json.loads(path.read_text(encoding='utf-8'))
    config.data.eval_splits = saved['data'].pop('eval_splits')  # not to be merged
    config.update(saved)
  except (OSError, ValueError, TypeError, LookupError) as error:
    raise UserError(
      f'{path} is not a config of this version ({_last_line(error)}): add --config=FILE'
    ) from error
  return config


def start_runtime(config: ConfigDict | None) -> None:
  """Starts JAX on all processes of the run, or on this one alone without a config."""
  # Imported only now: JAX takes seconds, and `--help` should not wait for it.
  from luab_jax.runtime import compile_cache, hosts

  compile_cache.use_compile_cache()
  if config:
    hosts.use_cpu_cores(config.batch_size, config.optimizer.grad_accum_steps)
    hosts.start_hosts()
  hosts.start_devices()


@contextlib.contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
  """Exits quietly when the reader of stdout is gone, as in `| head`."""
  try:
    yield
    sys.stdout.flush()
  except BrokenPipeError:
    os._exit(128 + signal.SIGPIPE)


def run(main: Callable[[list[str]], int]) -> None:
  """Runs main(arguments); the exit status is what it returns, and 2 for a UserError."""
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
    signal.signal(signal.SIGINT, _exit_interrupted)
  try:
    app.run(main, flags_parser=parse)
  except UserError as error:
    print(f'run.py: {error}', file=sys.stderr)
    sys.exit(2)


def _exit_interrupted(*_: Any) -> None:
  """Exits at once: a KeyboardInterrupt raised in a JAX callback would be printed and ignored."""
  with contextlib.suppress(OSError, ValueError, RuntimeError):  # a closed or busy stream
    print('run.py: interrupted; earlier checkpoints are kept', file=sys.stderr, flush=True)
    sys.stdout.flush()
  os._exit(128 + signal.SIGINT)
