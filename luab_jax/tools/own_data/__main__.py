"""Turns your own images into what the builders read: `python -m luab_jax.tools.own_data`."""

import argparse
import contextlib
import os
import pathlib
import shlex
import shutil
import signal
import sys

from luab_jax import hide_damaged_images
from luab_jax.errors import UserError
from luab_jax.runtime import lean_process

TITLE = 'Own data in the layout of '
_MADE = ('train', 'val')  # folders of links; all other files are replaced


class _Parser(argparse.ArgumentParser):
  """Reports a mistake as one line, without the usage before it."""

  def error(self, message):
    raise UserError(f'{message}; see python -m luab_jax.tools.own_data --help')


def parse_arguments(argv):
  """Parses the command line; raises UserError for what does not go together."""
  parser = _Parser(
    prog='python -m luab_jax.tools.own_data',
    allow_abbrev=False,
    description='Turn images of your own, with clicks or icons if there are any, into the files '
    'that the builders read, check them on the way, and say which commands come next.',
  )
  path = {'type': pathlib.Path, 'metavar': 'PATH'}
  parser.add_argument(
    '--images',
    required=True,
    **path,
    help='folder of class folders with images (CLASS/xxx.jpg); with --coco, of images',
  )
  parser.add_argument('--clicks', **path, help='CSV with the columns file,x,y[,time in ms]')
  parser.add_argument(
    '--click_units',
    choices=('pixels', 'fraction'),
    default='pixels',
    help='of x (to the right) and y (down), of the upright image at its full '
    'size (default: %(default)s)',
  )
  parser.add_argument('--validation', **path, help='folder of validation images, as --images')
  parser.add_argument(
    '--validation_share',
    type=float,
    metavar='SHARE',
    help='without that folder, the share of the images to validate on (default: 0.1)',
  )
  parser.add_argument('--coco', **path, help='instances of several classes an image, JSON as COCO')
  parser.add_argument('--coco_validation', **path, help='the same for the validation images')
  parser.add_argument(
    '--icons', **path, help='with --coco: CSV with the columns file,class,x,y[,time in ms]'
  )
  parser.add_argument(
    '--out',
    required=True,
    **path,
    help='folder for the files: a new one, or one that this command has made',
  )
  args = parser.parse_args(argv)
  for wrong, message in (
    (
      args.validation and args.validation_share is not None,
      '--validation and --validation_share exclude one another',
    ),
    (args.coco and args.clicks, '--clicks is for class folders: give --icons with --coco'),
    (args.icons and not args.coco, '--icons needs --coco=instances.json'),
    (args.coco_validation and not args.coco, '--coco_validation needs --coco'),
    (
      args.coco and args.validation and not args.coco_validation,
      '--validation needs --coco_validation=instances.json as well',
    ),
    (
      args.coco_validation and args.validation_share is not None,
      '--coco_validation and --validation_share exclude one another',
    ),
    (
      args.validation and not args.coco and args.validation.resolve() == args.images.resolve(),
      '--images and --validation are the same folder: leave out --validation',
    ),
  ):
    if wrong:
      raise UserError(message)
  args.validation_share = 0.1 if args.validation_share is None else args.validation_share
  if not 0 < args.validation_share < 1:
    raise UserError(f'--validation_share={args.validation_share:g} must lie between 0 and 1')
  return args


def main(argv=None):
  """Converts, and prints counts, problems and the next commands."""
  args = parse_arguments(argv)
  _check_paths(args)
  # Imported here, after the arguments are known to be right: TensorFlow takes seconds.
  lean_process.import_tensorflow()
  from luab_jax.tools.own_data import coco, folders
  from luab_jax.tools.own_data import problems as reporting

  layout = coco if args.coco else folders
  title, out = TITLE + layout.NAME, args.out
  try:
    _claim(out, title)
    with open(
      out / 'problems.csv', 'w', encoding='utf-8', errors='backslashreplace', newline=''
    ) as file:
      report = reporting.Report(file)
      table = layout.convert(args, out, report)
    lines = report.lines(out / 'problems.csv')
    text = '\n'.join([title, *lines, *table, '', *(next_commands(args, layout.NAME, report))])
    (out / 'README.txt').write_text(text + '\n', encoding='utf-8', errors='backslashreplace')
  except OSError as error:
    raise UserError(f'cannot write into --out={out}: {error}') from error
  print(
    '\n'.join(
      [
        f'{title}: {out}',
        *lines,
        *reporting.shortened(table),
        '',
        *next_commands(args, layout.NAME, report),
      ]
    ),
    flush=True,
  )


def _check_paths(args):
  """Raises UserError for a path that leads to nothing, or for files among the images."""
  for folder in (args.images, args.validation):
    if folder and not folder.is_dir():
      raise UserError(f'{folder} is no folder: give the one that holds the images')
    if folder and args.out.resolve().is_relative_to(folder.resolve()):
      raise UserError(f'--out={args.out} lies in {folder}, the images: name a folder outside of it')
  for option in ('clicks', 'icons', 'coco', 'coco_validation'):
    if file := getattr(args, option):
      try:
        file.stat()  # not opened: what comes through a pipe can be read once only
      except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from error
      if file.is_dir():
        raise UserError(f'{file} is a folder: --{option} takes a file')


def _claim(out, title):
  """Makes the folder, or empties one of ours of what an earlier conversion has put there."""
  out.mkdir(parents=True, exist_ok=True)
  readme = out / 'README.txt'
  ours = readme.is_file() and readme.read_text(errors='replace').startswith(TITLE)
  if not ours and any(out.iterdir()):
    raise UserError(f'--out={out} is not empty and was not made by this command: name a new folder')
  # The mark that it is ours, whatever becomes of the conversion.
  readme.write_text(f'{title}\nNot finished.\n', encoding='utf-8')
  for name in _MADE:
    with contextlib.suppress(FileNotFoundError):
      shutil.rmtree(out / name)


def next_commands(args, name, report):
  """Lines with the commands that build, draw, train and predict."""
  out = args.out
  run = f'--workdir=runs/{out.resolve().name}'
  train = [
    'python',
    'run.py',
    '--config=configs/own_data.py',
    f'--config.data.data_dir={out}/built',
  ]
  if not name.startswith('imagenet_ab'):
    train.append(f'--config.data.name={name}')
  if not any(report.counts.get(f'{what} kept') for what in ('clicks', 'icons')):
    train.append('--config.loss.point_weight=0')
  build = [
    'python',
    '-m',
    'tfds_builders.build',
    name,
    f'--manual_dir={out}',
    f'--data_dir={out}/built',
  ]
  if (out / 'built' / name).exists():
    build.append('--overwrite')
  train.append(run)
  return [
    'Next, from the folder of run.py:',
    *(
      '  ' + shlex.join(command)
      for command in (
        build,
        [*train, '--mode=plot'],
        train,
        ['python', 'run.py', '--mode=predict', run, 'IMAGE'],
      )
    ),
  ]


if __name__ == '__main__':
  hide_damaged_images()
  try:
    main()
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except BrokenPipeError:  # whoever read the output has seen enough: `| head`
    os._exit(128 + signal.SIGPIPE)
