"""Trains and evaluates: `python run.py --config=configs/quickstart.py --workdir=runs/x`.

Any key of the config can be set on the command line: `--config.batch_size=64`.
Exit status: 0: success; 1: an unexpected error, with a traceback; 2: a mistake in the command, the
config or the data, explained in one line; 65: some images were skipped, all others were predicted;
69: another process of the run was lost; 75: stopped by SIGTERM or SIGINT after saving, so that the
same command resumes the run; 128 + signal: stopped without saving.
"""

import inspect
import sys
import traceback

from absl import flags
from ml_collections import config_flags

from configs import default
from luab_jax import configure_process
from luab_jax.errors import UserError
from luab_jax.tools import cli

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, e.g. configs/quickstart.py')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run. Default: runs/<config>, or runs/<config>_study for a study.'
)
_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'eval', 'plot', 'study', 'export', 'predict', 'doctor'],
  'train: train (or resume) and evaluate. eval: evaluate the newest checkpoint. plot: show the '
  'data in data.html. study: train baseline, LUAB and controls with several seeds and compare '
  "them. export: write the weights to --workdir's export/model.safetensors, for timm. predict: "
  "label the image files and folders given as arguments with --workdir's newest checkpoint and "
  'write the results to its predictions/. doctor: check whether this machine is ready. Without '
  "--config, eval and plot use the run's config; export and predict always do.",
)
_HELP_CONFIG = flags.DEFINE_bool(
  'help_config', False, 'List the keys of --config, or of the default config, with descriptions.'
)
flags.FLAGS['config'].parser = cli.ConfigParser('config')


def main(argv):
  """Runs the mode given by --mode; returns the exit status."""
  mode, config, workdir, images = _MODE.value, _CONFIG.value, _WORKDIR.value, argv[1:]
  if _HELP_CONFIG.value:
    with cli.exit_on_broken_pipe():
      print(cli.describe(config or default.get_config(), inspect.getsource(default)))
    return 0
  cli.check_arguments(mode, config, workdir, images)
  configure_process(errors_only=True, hide_image_errors=mode == 'predict')
  if mode == 'doctor':
    from luab_jax.tools import doctor

    return doctor.examine(config, workdir or 'runs')
  if mode not in ('export', 'predict'):
    workdir = workdir or cli.default_workdir(mode)
    config = config or cli.read_run_config(workdir, default.get_config())
  cli.start_runtime(config)
  from luab_jax.runtime import hosts, preemption

  try:
    return _run(mode, config, workdir, images)
  except preemption.Preempted as preempted:
    print(f'run.py: {preempted}', file=sys.stderr)
    return preemption.EXIT_SAVED
  except Exception as error:
    mistake = isinstance(error, UserError)
    hosts.exit_now(2 if mistake else 1, f'run.py: {error}' if mistake else traceback.format_exc())
    raise


def _run(mode, config, workdir, images):
  """Runs a mode once the devices have been started; returns the exit status."""
  if mode in ('train', 'eval'):
    from luab_jax.report.draw_run import evaluate_and_report, train_and_report

    (train_and_report if mode == 'train' else evaluate_and_report)(config, workdir)
  elif mode == 'plot':
    from luab_jax.report import data_page

    data_page.draw(config, workdir)
  elif mode == 'study':
    from luab_jax.tools.study import study

    study.run_study(config, workdir)
  elif mode == 'export':
    from luab_jax.tools import export

    print(f'Open {export.export(workdir)}/README.md for the files and how to load them')
  else:
    from luab_jax.tools import predict

    with cli.exit_on_broken_pipe():
      return predict.predict_files(workdir, images)
  return 0


if __name__ == '__main__':
  cli.run(main)
