"""Downloads the shards of ClickMe: `python -m tfds_builders.clickme.download --out=RAW`.

Nothing else downloads them: we could not find the licence of these files, and their images are
ImageNet's, which has terms of its own. Files that are already there are kept.
"""

import argparse
import os
import pathlib
import shutil
import sys
import urllib.request

from tqdm import tqdm

from tfds_builders.clickme import release

NOTICE = (
  "ClickMe: we could not find the licence of these files, and the images are ImageNet's "
  '(https://image-net.org/download): make sure that you may use them.'
)


def download(out: pathlib.Path, *, url: str = release.URL) -> int:
  """Downloads the shards that are missing from a folder; returns their number.

  A shard gets its final name only once it is complete.

  Args:
    out: the folder, for train/train-N.tfrecords and val/val-N.tfrecords.
    url: of the folder that has the same files.

  Raises:
    OSError: the network or the disk fails; complete shards are kept.
  """
  names = [
    f'{split}/{split}-{i}.tfrecords'
    for split, count in release.SHARDS.items()
    for i in range(count)
  ]
  missing = [name for name in names if not (out / name).exists()]
  for name in tqdm(missing, unit='shard', disable=None):
    path, partial = out / name, out / f'{name}.part'
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(f'{url}/{name}') as response, open(partial, 'wb') as file:
      shutil.copyfileobj(response, file)
    expected = response.headers['Content-Length']
    if expected is not None and partial.stat().st_size != int(expected):
      raise OSError(f'{url}/{name}: the connection ended early')
    os.replace(partial, path)
  return len(missing)


def parse_args(argv: list[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser(
    prog='python -m tfds_builders.clickme.download',
    description='Downloads those of the 335 shards of ClickMe that are missing.',
    epilog=NOTICE,
  )
  parser.add_argument('--out', required=True, type=pathlib.Path, help='folder for the shards')
  return parser.parse_args(argv)


def main(argv: list[str]) -> int:
  """Runs the command line and returns its exit status."""
  out = parse_args(argv).out.expanduser()
  print(NOTICE)
  try:
    count = download(out)
  except OSError as error:
    print(f'error: {error}; run the command again to continue', file=sys.stderr)
    return 2
  print(f'{count} shards downloaded; all {sum(release.SHARDS.values())} are in {out}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
