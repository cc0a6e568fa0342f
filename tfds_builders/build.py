"""Builds a data set: `python -m tfds_builders.build imagenet_ab/local --manual_dir=DIR`.

Like `tfds build` on the folders here, but starts in a few seconds instead of half a minute, shows
the time left and prints a mistake as one line (exit status 2).
"""

import argparse
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable

from luab_jax import configure_process
from luab_jax.errors import UserError
from tfds_builders import build_summary

CONFIGS = {
  'imagenet_ab': ('ilsvrc2012', 'local', 'ilsvrc2012_short288', 'local_short288'),
  'coco_ab': (
    *('2014', 'local', 'narratives', 'local_narratives'),
    *('2014_short288', 'local_short288', 'narratives_short288', 'local_narratives_short288'),
  ),
  'backgrounds_challenge': ('variations', 'foregrounds'),
  'clickme': ('released', 'local'),
}
_BUILT = re.compile(
  r'(dataset_info|features|metadata)\.json|[\w-]+\.labels\.txt|\w+-\w+\.tfrecord-\d+-of-\d+'
)


class _Parser(argparse.ArgumentParser):
  """Reports a mistake as one line, without the usage."""

  def error(self, message):
    raise UserError(f'{message}; see python -m tfds_builders.build --help')


def parse_args(argv: list[str]) -> argparse.Namespace:
  """Parses the command line; raises UserError for a mistake in it."""
  names = [f'{name}/{config}' for name, configs in CONFIGS.items() for config in configs]
  parser = _Parser(
    prog='python -m tfds_builders.build',
    description='Builds one of the TFDS data sets in this folder.',
  )
  parser.add_argument('dataset', choices=names)
  parser.add_argument('--manual_dir', required=True, help='folder of the raw files')
  parser.add_argument('--data_dir', default='~/tensorflow_datasets', help='(default: %(default)s)')
  parser.add_argument(
    '--max_bad_share',
    help='fail if more than this fraction of the input is bad (default: '
    f'{build_summary.DEFAULT_MAX_BAD_SHARE})',
  )
  parser.add_argument(
    '--overwrite',
    action='store_true',
    help='build it again; the old data set is deleted once the new one is complete',
  )
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
    overwrite: whether to replace one that is there already, once the new one is complete.

  Returns:
    The folder of the built data set.

  Raises:
    UserError: the input is missing or damaged, or too much of it is bad; data_dir cannot be written
      or has too little space; the data set to overwrite has files that no build wrote.
  """
  manual_dir = pathlib.Path(manual_dir).expanduser().resolve()
  if not os.path.isdir(manual_dir):  # False also for a name that is too long
    raise UserError(
      f'--manual_dir={manual_dir} is not a folder: put the raw files there, see '
      f'tfds_builders/{dataset.partition("/")[0]}/README.md'
    )
  configure_process()
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()  # TFDS's bars have no total; ours show the time left
  data_dir = pathlib.Path(data_dir).expanduser().resolve()

  def prepare(folder: pathlib.Path) -> pathlib.Path:
    builder = _builder(dataset, folder)
    builder.download_and_prepare(
      download_dir=data_dir / 'downloads',
      download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    )
    return pathlib.Path(builder.data_dir)

  with build_summary.one_line_errors(data_dir):
    built = _builder(dataset, data_dir)
    if overwrite and built.is_prepared():
      return _replace(pathlib.Path(built.data_dir), data_dir, prepare)
    return prepare(data_dir)


def _replace(
  old: pathlib.Path, data_dir: pathlib.Path, prepare: Callable[[pathlib.Path], pathlib.Path]
) -> pathlib.Path:
  """Builds a new data set beside the old one, which is deleted once the new one is complete."""
  for path in old.iterdir():
    if path.is_dir() or not _BUILT.fullmatch(path.name):
      raise UserError(f'{path} was not written by a build: move it away before --overwrite')
  with tempfile.TemporaryDirectory(prefix='incomplete.', dir=data_dir) as folder:
    new, aside = prepare(pathlib.Path(folder)), pathlib.Path(folder, 'old')
    old.rename(aside)
    try:
      new.rename(old)
    except BaseException:
      aside.rename(old)
      raise
  return old


def _builder(dataset: str, data_dir: str | os.PathLike):
  name, _, config = dataset.partition('/')
  if name == 'imagenet_ab':
    from tfds_builders.imagenet_ab.imagenet_ab_dataset_builder import Builder
  elif name == 'coco_ab':
    from tfds_builders.coco_ab.coco_ab_dataset_builder import Builder
  elif name == 'clickme':
    from tfds_builders.clickme.clickme_dataset_builder import Builder
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
