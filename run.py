"""Trains and evaluates: `python run.py --config=configs/quickstart.py --workdir=runs/x`.

Any key of the config can be set on the command line: `--config.batch_size=64`.
Exit status: 0 done; 2 a mistake in the command, the config or the data (one line says which); 65
some images could not be predicted, the others were; 69 another process of the run was lost; 75
stopped by SIGTERM or SIGINT and saved: the same command goes on; 128 + signal: stopped unsaved.
"""

import contextlib
import os
import pathlib
import signal
import sys
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from luab_jax import WITHOUT_KERAS, hide_damaged_images
from luab_jax.errors import UserError
from luab_jax.runtime.lean_process import bound_malloc

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/quickstart.py')
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of the run: checkpoints, logs, results. Default: runs/<config name>;'
  ' for a study runs/<config name>_study.',
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'plot', 'study', 'export', 'predict', 'doctor'],
  'train: train (or continue) and evaluate at the end. eval: evaluate the newest checkpoint. '
  'plot: draw the data into data.html, before any training. '
  'study: train baseline, LUAB and controls over config.study.seeds seeds and compare them. '
  "export: write the network as --workdir's export/model.safetensors for timm; needs no --config. "
  "predict: label the image files and folders that follow with --workdir's newest checkpoint, into "
  'its predictions/; needs no --config. '
  'doctor: say what this machine has and lacks for a run, of --config where that is given.',
)
_CONFIGS = pathlib.Path(__file__).resolve().parent / 'configs'
_REFERENCE = _CONFIGS / 'quickstart.py'  # all of them have the same keys


class _ConfigParser(flags.ArgumentParser):
  """Loads the file that --config names; what is wrong with it becomes a UserError."""

  def parse(self, argument):
    config = _read_config(argument)
    if missing := _missing_keys(config):
      raise UserError(
        f'{argument} lacks {_listed(missing)}: copy it from configs/{_REFERENCE.name}'
      )
    if unknown := _missing_keys(_reference(), config):
      raise UserError(
        f'{argument} has {_listed(unknown)}, which nothing reads: configs/'
        f'{_REFERENCE.name} has all keys there are'
      )
    return config.lock()


flags.FLAGS['config'].parser = _ConfigParser()  # ml_collections' own tells little of a mistake


def main(argv):
  """Runs the chosen mode; see the module's text."""
  if _MODE.value == 'predict':
    return _predict(argv[1:])
  if len(argv) > 1:
    like = f'--config={argv[1]}' if argv[1].endswith('.py') else '--mode=eval'
    raise UserError(f'unexpected argument {argv[1]!r}; options look like {like}')
  logging.set_verbosity(logging.ERROR)  # TFDS warns of its own deprecated calls
  if _MODE.value == 'export':
    if not _WORKDIR.value:
      raise UserError('which run? Add --workdir=runs/quickstart (or another one)')
    from luab_jax.runtime import checkpoint, hosts
    from luab_jax.tools import export

    checkpoint.silence_orbax()
    hosts.start_devices()
    print(f'Open {export.export(_WORKDIR.value)}/README.md: what is there and how to load it')
    return 0
  os.environ.setdefault(*WITHOUT_KERAS)
  bound_malloc()
  if _MODE.value == 'doctor':
    from luab_jax.tools import doctor

    return doctor.examine(_load_config(needed=False), _WORKDIR.value or 'runs')
  config = _load_config()
  # Only now: these import JAX and TensorFlow, and `--help` should not wait for them.
  from luab_jax.runtime import checkpoint, compile_cache, hosts, preemption
  from luab_jax.train import loop

  checkpoint.silence_orbax()
  compile_cache.use_compile_cache()
  hosts.use_cpu_cores(config.batch_size, config.optimizer.grad_accum_steps)
  hosts.start_hosts()
  hosts.start_devices()
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  workdir = _WORKDIR.value or os.path.join('runs', os.path.splitext(os.path.basename(file))[0])
  try:
    if _MODE.value == 'train':
      loop.train_and_evaluate(config, workdir)
    elif _MODE.value == 'eval':
      loop.evaluate_only(config, workdir)
    elif _MODE.value == 'study':
      from luab_jax.tools.study import study  # SciPy's statistics take half a second

      study.run_study(config, _WORKDIR.value or f'{workdir}_study')
    else:
      from luab_jax.report import data_page

      data_page.draw(config, workdir)
  except preemption.Preempted as stopped:
    print(f'run.py: {stopped}', file=sys.stderr)
    return preemption.EXIT_SAVED
  except UserError as error:
    hosts.exit_now(2, f'run.py: {error}')
    raise
  return 0


def _predict(paths):
  """--mode=predict: returns the exit status."""
  if not _WORKDIR.value:
    raise UserError('which run? Add --workdir=runs/quickstart (or another one)')
  if flags.FLAGS['config'].present:
    raise UserError('--mode=predict takes the config of the run: leave --config out')
  if not paths:
    raise UserError('which images? Name files or folders: --mode=predict --workdir=RUN a.jpg b/')
  logging.set_verbosity(logging.ERROR)
  os.environ.setdefault(*WITHOUT_KERAS)
  hide_damaged_images()
  from luab_jax.runtime import checkpoint, compile_cache, hosts
  from luab_jax.tools import predict

  checkpoint.silence_orbax()
  compile_cache.use_compile_cache()
  hosts.start_devices()
  try:
    return predict.predict_files(_WORKDIR.value, paths)
  except BrokenPipeError:  # whoever read the output has seen enough: `| head`
    os._exit(128 + signal.SIGPIPE)


def _load_config(needed=True):
  """The config with the overrides of the command line; None where it is not needed."""
  config = _CONFIG.value
  if config is None:
    if needed:
      raise UserError(
        'which experiment? Add --config=configs/quickstart.py (or another file there)'
      )
    return None
  missing = _missing_keys(config)
  if missing:  # the file had them all, so a section was replaced
    section = missing[0].rpartition('.')[0]
    raise UserError(
      f'--config.{section}=… leaves the config without {_listed(missing)}: set '
      f'single keys, such as --config.{missing[0]}=…'
    )
  return config


def _read_config(argument, name='config'):
  """The ConfigDict of 'FILE' or 'FILE:argument of get_config'; anything else is a UserError."""
  path = argument.partition(':')[0]
  if not os.path.isfile(path):
    there = ', '.join(sorted(os.path.relpath(file) for file in _CONFIGS.glob('*.py')))
    raise UserError(f'--config={path}: there is no such file; there are {there}')
  logging.set_verbosity(logging.ERROR)  # the parser warns where nothing is returned; so do we
  try:
    config = config_flags.config_flags.ConfigFileFlagParser(name, lock_config=False).parse(argument)
    if config is not None and not isinstance(config, ConfigDict):
      getattr(config, 'keys', None)  # what stands for a file with an OSError raises it here
  except Exception as error:  # the file is the user's code: it may raise whatever there is
    wrapped = isinstance(error, (OSError, TypeError, ValueError))  # by the parser, in another one
    own = (error.__cause__ or error.__context__ or error) if wrapped else error
    if getattr(own, 'name', '') == 'get_config' and isinstance(own, AttributeError):
      raise UserError(
        f'{path} has no function get_config(): see configs/{_REFERENCE.name}'
      ) from error
    raise UserError(f'{_place(path, own)}: {type(own).__name__}: {_one_line(own)}') from error
  if not isinstance(config, ConfigDict):
    raise UserError(
      f'get_config() of {path} returns {type(config).__name__}, not an '
      f'ml_collections.ConfigDict: see configs/{_REFERENCE.name}'
    )
  return config


def _place(path, error):
  """FILE:LINE of an error in a config file, or in what it imports where that cannot be parsed."""
  if isinstance(error, SyntaxError):
    return f'{error.filename or path}:{error.lineno}' if error.lineno else path
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if os.path.abspath(frame.filename) == os.path.abspath(path)
  ]
  return f'{path}:{lines[-1]}' if lines else path


def _missing_keys(config, reference=None):
  """The keys of the reference that a config lacks, 'optimizer.momentum'; sections as a whole."""

  def missing(config, reference, prefix):
    keys = []
    for key, value in reference.items():
      if key not in config:
        keys.append(prefix + key)
      elif isinstance(value, ConfigDict) and key != 'eval_splits':  # has names of its own
        part = config[key] if isinstance(config[key], ConfigDict) else {}
        keys += missing(part, value, f'{prefix}{key}.')
    return keys

  return missing(config, reference or _reference(), '')


def _reference():
  """The config whose keys all others have."""
  return _read_config(os.path.relpath(_REFERENCE), 'reference')


def _listed(keys, most=4):
  more = f' and {len(keys) - most} more' if len(keys) > most else ''
  return ', '.join(f"'{key}'" for key in keys[:most]) + more


def _parse(argv):
  """Parses the flags; a mistyped one becomes a UserError."""
  flags.FLAGS.set_gnu_getopt()  # options may follow the images of --mode=predict
  try:
    return flags.FLAGS(argv)
  except (AttributeError, LookupError, TypeError) as error:
    raise UserError(f'no such key in the config: {_one_line(error)}') from error
  except flags.IllegalFlagValueError as error:
    raise UserError(_illegal_value(error)) from error
  except (flags.Error, ValueError, OSError) as error:
    if getattr(error, 'flagname', '').startswith('config.') and flags.FLAGS['config'].value is None:
      raise UserError(
        f'--{error.flagname} changes a config, but --config is missing: add '
        '--config=configs/quickstart.py (or another file there)'
      ) from error
    raise UserError(f'{_one_line(error)} (see `python run.py --help`)') from error


def _illegal_value(error):
  """One line on a value that a flag cannot have; for a key of the config, what it has now."""
  why = error.__cause__ or error.__context__
  option = str(error).removeprefix('flag ').removesuffix(f': {why}')
  key = option.partition('=')[0].removeprefix('--config.')
  config = flags.FLAGS['config'].value
  if config is None or not option.startswith('--config.'):
    return f'{option}: {_one_line(why or error)} (see `python run.py --help`)'
  value = config_flags.config_flags.GetValue(key, config)
  if key.endswith('eval_splits'):
    return (
      f'{option}: name each split that is evaluated, such as '
      f"--config.{key}=\"{{'validation': 'validation'}}\""
    )
  if isinstance(value, ConfigDict):
    name = 'name' if 'name' in value else next(iter(value))
    given = option.partition('=')[2] if name == 'name' else '…'
    return (
      f'{option}: {key} is a section of the config, which cannot be replaced: set its keys, '
      f'such as --config.{key}.{name}={given}'
    )
  return f'{option}: must be of type {type(value).__name__}, such as {value!r} in the config'


def _one_line(error):
  """An exception's message without line breaks and the escapes a KeyError wraps it in."""
  while len(error.args) == 1 and isinstance(error.args[0], Exception):
    error = error.args[0]  # ConfigDict makes AttributeErrors of KeyErrors
  if isinstance(error, SyntaxError):
    text = error.msg
  else:
    text = str(error.args[0] if len(error.args) == 1 else error)
  return '; '.join(' '.join(line.split()) for line in text.splitlines() if line.strip())


def _interrupted(*_):
  """Ends at once: a KeyboardInterrupt raised in a callback of JAX's is printed and forgotten."""
  with contextlib.suppress(OSError, ValueError, RuntimeError):  # a closed or busy stream
    print('run.py: interrupted; what was saved before stays', file=sys.stderr, flush=True)
    sys.stdout.flush()
  os._exit(128 + signal.SIGINT)


if __name__ == '__main__':
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
    signal.signal(signal.SIGINT, _interrupted)
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    print(f'run.py: {error}', file=sys.stderr)
    sys.exit(2)
