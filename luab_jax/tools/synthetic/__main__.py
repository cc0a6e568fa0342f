"""Writes the embedded release: `python -m luab_jax.tools.synthetic --help`."""

import argparse
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.parser import Parser

RELEASES = ('imagenet_ab', 'coco_ab')


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
  """Parses the command line; raises UserError if an argument is out of range."""
  parser = Parser(
    prog='python -m luab_jax.tools.synthetic',
    allow_abbrev=False,
    description='Write a small synthetic data set in the exact format of a real release. The same '
    'arguments give the same bytes.',
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
  )
  parser.add_argument('--release', required=True, choices=RELEASES, help='whose format to write')
  parser.add_argument('--out', required=True, type=pathlib.Path, help='folder for the files')
  parser.add_argument('--seed', type=int, default=0, help='seed of the whole data set')
  parser.add_argument('--train', type=int, default=4000, help='number of training images')
  parser.add_argument(
    '--validation', type=int, default=1000, help='number of images in each other split'
  )
  parser.add_argument(
    '--correlation',
    type=float,
    default=0.7,
    help='probability that the background is that of the class; 1/6: independent of the class',
  )
  parser.add_argument('--size', type=int, default=48, help='short side of the images in pixels')
  parser.add_argument(
    '--objects',
    default='alike',
    choices=('alike', 'varied'),
    help='imagenet_ab: widths of 0.34 to 0.52 of the short side, or of 0.19 to 0.58',
  )
  args = parser.parse_args(argv)
  if args.release == 'coco_ab' and args.objects != 'alike':
    raise UserError('--objects=varied is only for imagenet_ab')
  for name, least, most in (
    ('seed', 0, 2**63 - 1),
    ('train', 1, 999_999),
    ('validation', 1, 999_999),
    ('correlation', 0, 1),
    ('size', 32, 2048),
  ):
    value = getattr(args, name)
    if not least <= value <= most:
      raise UserError(f'--{name}={value} is out of range: choose from {least} to {most}')
  if args.out.exists() and not args.out.is_dir():
    raise UserError(f'--out={args.out} is a file: name a folder')
  return args


def main(argv: list[str] | None = None) -> None:
  """Writes the release; raises UserError if it cannot be written."""
  args = parse_arguments(argv)
  # Not at the top, so that --help is immediate.
  from luab_jax.tools.synthetic import coco_release, imagenet_release, scene

  try:
    write: Callable[..., dict[str, int]] = coco_release.write
    if args.release == 'imagenet_ab':
      write = functools.partial(imagenet_release.write, objects=args.objects)
    with output_folder.replacing(args.out, f'synthetic {args.release}') as folder:
      counts = write(
        folder,
        seed=args.seed,
        train=args.train,
        validation=args.validation,
        correlation=args.correlation,
        size=args.size,
      )
      title = f'{scene.LABEL}: {args.release}'
      (folder / 'README.txt').write_text(_readme(args, title, counts))
  except OSError as error:
    raise UserError(f'cannot write to --out={args.out}: {error}') from error
  print(
    f'{args.release} (synthetic) in {args.out}: '
    + ', '.join(f'{number} {what}' for what, number in counts.items())
  )


def _readme(args: argparse.Namespace, title: str, counts: Mapping[str, int]) -> str:
  """Returns README.txt, which first says that the folder is synthetic."""
  flags = ' '.join(
    f'--{name}={getattr(args, name)}'
    for name in ('release', 'seed', 'train', 'validation', 'correlation', 'size', 'objects')
  )
  lines = [
    title,
    '',
    'Pictures, clicks, mouse tracks, times and boxes in this folder were made by a program.',
    'The files have the format of the real release, but nothing in them comes from people,',
    'ImageNet or COCO.',
    '',
    f'Made by: python -m luab_jax.tools.synthetic {flags} --out=...',
    '',
    *(f'{what}: {number}' for what, number in counts.items()),
  ]
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  try:
    main()
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
