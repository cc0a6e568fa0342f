"""Trains and evaluates: `python run.py --config=configs/quickstart.py --workdir=runs/x`.

Any key of the config can be set on the command line: `--config.batch_size=64`.
Exit status: 0 done; 2 a mistake in the command, the config or the data (one line says which); 65
some images could not be predicted, the others were; 69 another process of the run was lost; 75
stopped by SIGTERM or SIGINT and saved: the same command goes on; 128 + signal: stopped unsaved.
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from luab_jax import WITHOUT_KERAS
from luab_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/quickstart.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run: checkpoints, logs, results. Default: runs/<config name>;'
  ' for a study runs/<config name>_study.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'eval', 'plot', 'study', 'export', 'predict', 'doctor'],
  'train: train (or continue) and evaluate at the end. eval: evaluate the newest checkpoint. '
  'plot: draw the data into data.html, before any training. '
  'study: train baseline, LUAB and controls over config.study.seeds seeds and compare them. '
  "export: write the network as --workdir's export/model.safetensors for timm; needs no --config. "
  "predict: label the image files and folders that follow with --workdir's newest checkpoint, into "
  'its predictions/; needs no --config. '
  'doctor: say what this machine has and lacks for a run, of --config where that is given.',
)


def main(argv):
  """Runs the chosen mode; see the module's text."""
  if _MODE.value == 'predict':
    return _predict(argv[1:])
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}; options look like --mode=eval')
  logging.set_verbosity(logging.ERROR)  # TFDS warns of its own deprecated calls
  if _MODE.value == 'export':
    from luab_jax import checkpoint, export

    checkpoint.silence_orbax()
    if not _WORKDIR.value:
      raise UserError('which run? Add --workdir=runs/quickstart (or another one)')
    print(f'Open {export.export(_WORKDIR.value)}/README.md: what is there and how to load it')
    return 0
  os.environ.setdefault(*WITHOUT_KERAS)
  if _MODE.value == 'doctor':
    from luab_jax import doctor

    return doctor.examine(_load_config(needed=False), _WORKDIR.value or 'runs')
  config = _load_config()
  # Only now: these import JAX and TensorFlow, and `--help` should not wait for them.
  from luab_jax import checkpoint, compile_cache, data_page, parallel, preemption, study, train
  checkpoint.silence_orbax()
  compile_cache.use_compile_cache()
  parallel.use_cpu_cores(config.batch_size, config.optimizer.grad_accum_steps)
  parallel.start_hosts()
  file = config_flags.get_config_filename(flags.FLAGS['config'])
  workdir = _WORKDIR.value or os.path.join('runs', os.path.splitext(os.path.basename(file))[0])
  try:
    if _MODE.value == 'train':
      train.train_and_evaluate(config, workdir)
    elif _MODE.value == 'eval':
      train.evaluate_only(config, workdir)
    elif _MODE.value == 'study':
      study.run_study(config, _WORKDIR.value or f'{workdir}_study')
    else:
      data_page.draw(config, workdir)
  except preemption.Stopped as stopped:
    print(f'run.py: {stopped}', file=sys.stderr)
    return preemption.EXIT_SAVED
  except UserError as error:
    parallel.leave(2, f'run.py: {error}')
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
  from luab_jax import checkpoint, compile_cache, predict_files

  checkpoint.silence_orbax()
  compile_cache.use_compile_cache()
  return predict_files.predict_files(_WORKDIR.value, paths)


def _load_config(needed=True):
  """The config with the overrides of the command line; None where it is not needed."""
  try:
    config = _CONFIG.value
    if config is not None:
      config.keys()  # a file that failed to load shows itself at the first use only
  except (OSError, ImportError) as error:
    raise UserError(f'--config: {_one_line(error)}') from error
  if config is None and needed:
    raise UserError('which experiment? Add --config=configs/quickstart.py (or another file there)')
  return config


def _parse(argv):
  """Parses the flags; a mistyped one becomes a UserError."""
  flags.FLAGS.set_gnu_getopt()  # options may follow the images of --mode=predict
  try:
    return flags.FLAGS(argv)
  except (AttributeError, KeyError) as error:
    raise UserError(f'no such key in the config: {_one_line(error)}') from error
  except (flags.Error, TypeError, ValueError, OSError) as error:
    raise UserError(f'{_one_line(error)} (see `python run.py --help`)') from error


def _one_line(error):
  """An exception's message without line breaks and the escapes a KeyError wraps it in."""
  text = str(error.args[0] if len(error.args) == 1 else error)
  text = text.replace("\\'", '').replace('\\n', '; ').strip('\'"')
  return ' '.join(text.split())


if __name__ == '__main__':
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    print(f'run.py: {error}', file=sys.stderr)
    sys.exit(2)
  except KeyboardInterrupt:
    print('run.py: interrupted; what was saved before stays', file=sys.stderr)
    sys.exit(130)
