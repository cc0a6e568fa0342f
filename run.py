"""Trains and evaluates: `python run.py --config=configs/quickstart.py --workdir=runs/x`.

Any key of the config can be set on the command line: `--config.batch_size=64`.
Exit status: 0 done, 2 a mistake in the command, the config or the data (one line says which).
"""

import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from luab_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/quickstart.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run: checkpoints, logs, results. Default: runs/<config name>.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'eval'],
  'train: train (or continue) and evaluate at the end. eval: evaluate the newest checkpoint.',
)


def main(argv):
  """Runs the chosen mode; see the module's text."""
  if len(argv) > 1:
    raise UserError(f'unexpected argument {argv[1]!r}; options look like --mode=eval')
  if _CONFIG.value is None:
    raise UserError('which experiment? Add --config=configs/quickstart.py (or another file there)')
  logging.set_verbosity(logging.ERROR)  # TFDS warns of its own deprecated calls
  # Only now: these import JAX and TensorFlow, and `--help` should not wait for them.
  from luab_jax import parallel, train

  parallel.start_hosts()
  config_file = config_flags.get_config_filename(flags.FLAGS['config'])
  name = os.path.splitext(os.path.basename(config_file))[0]
  workdir = _WORKDIR.value or os.path.join('runs', name)
  if _MODE.value == 'train':
    train.train_and_evaluate(_CONFIG.value, workdir)
  else:
    train.evaluate_only(_CONFIG.value, workdir)


def _parse(argv):
  """Parses the flags; a mistyped one becomes a UserError."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    raise UserError(f'{" ".join(str(error).split())} (see `python run.py --help`)') from error


if __name__ == '__main__':
  try:
    app.run(main, flags_parser=_parse)
  except UserError as error:
    print(f'run.py: {error}', file=sys.stderr)
    sys.exit(2)
