"""Makes composites of Caltech-101's photographs: `python -m luab_jax.tools.composites --help`."""

import argparse
import os
import pathlib
import shlex
import signal
import sys

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.parser import Parser

_README = """Composites of Caltech-101, with simulated clicks, in the format of ImageNet-AB

The photographs and the outlines of their objects are real. All clicks, mouse traces, times and
ids are SIMULATED from the outlines: nobody clicked.

Source: Li, Andreeto, Ranzato, Perona (2022), Caltech 101 (1.0) [Data set], CaltechDATA,
https://doi.org/10.22002/D1.20086.
Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),
https://creativecommons.org/licenses/by/4.0/.
Changes: selection of classes, resizing, compositing, encoding.
What each file holds: docs/real_photographs.md.

Made by: python -m luab_jax.tools.composites --caltech=... --seed={seed} --out=...
"""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
  """Parses the command line; raises UserError if an argument is out of range."""
  parser = Parser(
    prog='python -m luab_jax.tools.composites',
    allow_abbrev=False,
    description='Cut the objects of 19 classes of Caltech-101 out of their photographs, paste them '
    "onto scenes and each other's backgrounds, and write them in the format of ImageNet-AB with "
    'clicks simulated from the outlines. The same arguments give the same bytes.',
  )
  parser.add_argument(
    '--caltech',
    required=True,
    type=pathlib.Path,
    metavar='FOLDER',
    help='folder with 101_ObjectCategories.tar.gz and Annotations.tar, as in caltech-101.zip',
  )
  parser.add_argument('--out', required=True, type=pathlib.Path, help='folder for the files')
  parser.add_argument('--seed', type=int, default=0, help='random seed (default: %(default)s)')
  args = parser.parse_args(argv)
  if not 0 <= args.seed < 2**63:
    raise UserError(f'--seed={args.seed} is out of range: choose from 0 to {2**63 - 1}')
  return args


def main(argv: list[str] | None = None) -> None:
  """Writes the folder; raises UserError if the archives cannot be read or the folder written."""
  args = parse_arguments(argv)
  if not os.path.isdir(args.caltech):
    raise UserError(f'--caltech={args.caltech} is not a folder: name the one with both archives')
  if args.out.exists() and not args.out.is_dir():
    raise UserError(f'--out={args.out} is a file: name a folder')
  output_folder.refuse_overlap(args.out, [args.caltech])
  # Not at the top, so that --help is immediate.
  from luab_jax.tools.composites import caltech, pictures, release
  from luab_jax.tools.own_data.problems import Problems, format_class_table

  try:
    with output_folder.replacing(args.out, 'composites') as folder:
      with open(folder / 'problems.csv', 'w', encoding='utf-8', newline='') as file:
        problems = Problems(file)
        objects, scenes = caltech.read(args.caltech, args.seed, problems)
        rows = release.write(folder, pictures.Pictures(objects, scenes, args.seed))
      rows['all'] = [sum(column) for column in zip(*rows.values(), strict=True)]
      table = format_class_table(rows, tuple(pictures.SPLITS))
      lines = [*problems.format(pathlib.Path('problems.csv')), *table]
      text = _README.format(seed=args.seed) + '\n' + '\n'.join(lines) + '\n'
      (folder / 'README.txt').write_text(text, encoding='utf-8')
  except OSError as error:
    raise UserError(f'cannot write to --out={args.out}: {error}') from error
  build = ['python', '-m', 'tfds_builders.build', 'imagenet_ab/local']
  build += [f'--manual_dir={args.out}', f'--data_dir={args.out}/built']
  train = ['python', 'run.py', '--config=configs/caltech_scenes.py']
  train.append(f'--config.data.data_dir={args.out}/built')
  print(
    f'{sum(rows["all"]):,} images of Caltech-101 and composites, clicks simulated: {args.out}',
    *problems.format(args.out / 'problems.csv'),
    *table,
    'Next, from the folder of run.py:',
    *('  ' + shlex.join(command) for command in (build, train)),
    sep='\n',
  )


if __name__ == '__main__':
  try:
    main()
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except BrokenPipeError:  # the reader of the output is gone, as in `| head`
    os._exit(128 + signal.SIGPIPE)
