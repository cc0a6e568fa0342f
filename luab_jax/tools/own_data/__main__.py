"""Converts your own images into the builders' input: `python -m luab_jax.tools.own_data`."""

import argparse
import os
import pathlib
import signal
import sys

from luab_jax import configure_process
from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.own_data import layouts
from luab_jax.tools.parser import Parser

TITLE = 'Own data in the layout of '


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
  """Parses the command line; raises UserError for conflicting or invalid options."""
  args = _parser().parse_args(argv)
  for is_wrong, message in (
    (
      args.validation and args.validation_fraction is not None,
      '--validation and --validation_fraction are mutually exclusive',
    ),
    (args.coco and args.clicks, '--clicks is for class folders: use --icons with --coco'),
    (args.icons and not args.coco, '--icons needs --coco=instances.json'),
    (args.coco_validation and not args.coco, '--coco_validation needs --coco'),
    (
      args.coco and args.validation and not args.coco_validation,
      '--validation needs --coco_validation=instances.json as well',
    ),
    (
      args.coco_validation and args.validation_fraction is not None,
      '--coco_validation and --validation_fraction are mutually exclusive',
    ),
    (
      args.validation and not args.coco and args.validation.resolve() == args.images.resolve(),
      '--images and --validation are the same folder: omit --validation',
    ),
  ):
    if is_wrong:
      raise UserError(message)
  if args.validation_fraction is None:
    args.validation_fraction = 0.1
  if args.short_side < 0:
    raise UserError(f'--short_side={args.short_side} must be above 0')
  if not 0 < args.validation_fraction < 1:
    raise UserError(f'--validation_fraction={args.validation_fraction:g} must be between 0 and 1')
  return args


def _parser() -> argparse.ArgumentParser:
  parser = Parser(
    prog='python -m luab_jax.tools.own_data',
    allow_abbrev=False,
    description='Convert your own images, with clicks or icons if you have them, into the files '
    'that the builders read, check them, and print the commands to run next.',
  )

  def add_path(name: str, text: str, *, required: bool = False) -> None:
    parser.add_argument(name, required=required, type=pathlib.Path, metavar='PATH', help=text)

  add_path(
    '--images',
    'folder of class folders with images (CLASS/xxx.jpg); with --coco, folder of images',
    required=True,
  )
  add_path(
    '--clicks',
    'CSV with the columns file,x,y[,time in ms]; or the export of Label Studio (JSON) or CVAT '
    '("CVAT for images 1.1")',
  )
  parser.add_argument(
    '--click_units',
    choices=('pixels', 'fraction'),
    default='pixels',
    help='units of x (right) and y (down) in a CSV, in the upright, full-size image (default: '
    '%(default)s)',
  )
  add_path('--validation', 'folder of validation images, laid out like --images')
  parser.add_argument(
    '--validation_fraction',
    type=float,
    metavar='FRACTION',
    help='without --validation, the fraction of the images to hold out (default: 0.1)',
  )
  add_path('--coco', 'COCO instances file (JSON), for several classes per image')
  add_path('--coco_validation', 'COCO instances file of the validation images')
  add_path(
    '--icons',
    'with --coco: CSV with the columns file,class,x,y[,time in ms], or an export as for --clicks',
  )
  parser.add_argument(
    '--short_side',
    type=int,
    default=0,
    metavar='PIXELS',
    help='store large images resized to this short side, for faster input; the originals and the '
    'units of clicks and boxes do not change (default: full size)',
  )
  add_path('--out', 'output folder: a new one, or one made by this command', required=True)
  return parser


def main(argv: list[str] | None = None) -> None:
  """Converts, then prints counts, problems and the next commands."""
  args = parse_arguments(argv)
  _check_paths(args)
  # TensorFlow takes seconds to import: only once the arguments are known to be right.
  configure_process(hide_image_errors=True)
  from luab_jax.tools.own_data import coco, folders

  layout = coco if args.coco else folders
  layouts.write(
    args.out,
    'own_data',
    f'{TITLE}{layout.NAME}',
    layout.NAME,
    lambda folder, problems: layout.convert(args, folder, problems),
  )


def _check_paths(args: argparse.Namespace) -> None:
  """Raises UserError for a path that does not exist or overlaps the output folder."""
  for folder in (args.images, args.validation):
    if folder and not os.path.isdir(folder):  # also for a name that is too long
      raise UserError(f'{folder} is not a folder: give the one that holds the images')
  for option in ('clicks', 'icons', 'coco', 'coco_validation'):
    if file := getattr(args, option):
      try:
        file.stat()  # not opened: a pipe can be read only once
      except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from error
      if file.is_dir():
        raise UserError(f'{file} is a folder: --{option} takes a file')
  inputs = (args.images, args.validation, args.clicks, args.icons, args.coco, args.coco_validation)
  output_folder.refuse_overlap(args.out, filter(None, inputs))


if __name__ == '__main__':
  try:
    main()
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except BrokenPipeError:  # the reader of the output is gone, as in `| head`
    os._exit(128 + signal.SIGPIPE)
