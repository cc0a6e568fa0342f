"""Builds a data set: `python -m tfds_builders.build imagenet_ab/local --manual_dir=DIR`.

Like `tfds build` on the folders here, but starts in a few seconds instead of half a minute, shows
the time left and prints a mistake as one line (exit status 2).
"""

import argparse
import os
import pathlib
import sys

from luab_jax import configure_process
from luab_jax.errors import UserError
from tfds_builders import build_summary

CONFIGS = {
  'imagenet_ab': ('ilsvrc2012', 'local'),
  'coco_ab': ('2014', 'local'),
  'backgrounds_challenge': ('variations', 'foregrounds'),
}


class _Parser(argparse.ArgumentParser):
  """Reports a mistake as one line, without the usage."""

  def error(self, message):
    raise UserError(f'{message}; see python -m tfds_builders.build --help')


def parse_args(argv: list[str]) -> argparse.Namespace:
  """Parses the command line; raises UserError for a mistake in it."""
  names = [f'{name}/{config}' for name, configs in CONFIGS.items() for config in configs]
  parser = _Parser(
    prog='python -m tfds_builders.build',
    description='Builds one of the TFDS data sets of this folder.',
  )
  parser.add_argument('dataset', choices=names)
  parser.add_argument('--manual_dir', required=True, help='folder of the raw files')
  parser.add_argument('--data_dir', default='~/tensorflow_datasets', help='(default: %(default)s)')
  parser.add_argument(
    '--max_bad_share',
    help='fail if more than this share of the input is bad (default: '
    f'{build_summary.DEFAULT_MAX_BAD_SHARE})',
  )
  parser.add_argument('--overwrite', action='store_true', help='delete what was built before')
  return parser.parse_args(argv)


def build(
  dataset: str,
  *,
  manual_dir: str | os.PathLike,
  data_dir: str | os.PathLike,
  overwrite: bool = False,
) -> pathlib.Path:
  """Builds a data set unless it is there already.

  Args:
    dataset: 'imagenet_ab/local' or another name of `CONFIGS`.
    manual_dir: folder of the raw files.
    data_dir: where TFDS keeps data sets.
    overwrite: whether to delete and build one that is there already.

  Returns:
    The folder of the built data set.

  Raises:
    UserError: the input is missing or damaged, or too much of it is bad.
  """
  manual_dir = pathlib.Path(manual_dir).expanduser().resolve()
  if not manual_dir.is_dir():
    raise UserError(
      f'--manual_dir={manual_dir} is not a folder: put the raw files there, see '
      f'tfds_builders/{dataset.partition("/")[0]}/README.md'
    )
  configure_process()
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()  # TFDS's bars know no total; ours show the time left
  builder = _builder(dataset, pathlib.Path(data_dir).expanduser().resolve())
  if overwrite and builder.is_prepared():
    builder.data_path.rmtree()
    builder = _builder(dataset, builder.data_dir_root)  # forgets the old one's metadata
  builder.download_and_prepare(
    download_dir=builder.data_dir_root / 'downloads',
    download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
  )
  return pathlib.Path(builder.data_dir)


def _builder(dataset: str, data_dir: str | os.PathLike):
  name, _, config = dataset.partition('/')
  if name == 'imagenet_ab':
    from tfds_builders.imagenet_ab.imagenet_ab_dataset_builder import Builder
  elif name == 'coco_ab':
    from tfds_builders.coco_ab.coco_ab_dataset_builder import Builder
  else:
    from tfds_builders.backgrounds_challenge.backgrounds_challenge_dataset_builder import Builder
  return Builder(config=config, data_dir=data_dir)


def main(argv: list[str]) -> int:
  """Runs the command line and returns its exit status."""
  try:
    args = parse_args(argv)
    if args.max_bad_share:
      os.environ[build_summary.MAX_BAD_SHARE_VARIABLE] = args.max_bad_share
    path = build(
      args.dataset, manual_dir=args.manual_dir, data_dir=args.data_dir, overwrite=args.overwrite
    )
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted: the unfinished data set was deleted', file=sys.stderr)
    return 130
  print(f'{args.dataset} is in {path}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
