"""Time and memory of building backgrounds_challenge from an archive of the real number of files.

Generates backgrounds_challenge_data.tar.gz in a temporary folder: 9 classes × 450 images × 8
variations and 4,050 masks, all of 224 px (the real size of the archive is unknown to us; these
JPEGs take about 27 KB, 0.9 GB together). Then measures in fresh processes, in seconds, CPU seconds
and peak resident memory:
  start        Python with TensorFlow, TFDS and the builder imported, nothing read
  read         one pass over the archive: what each of eight splits would cost without the spool
  variations   the whole build of this config, TFRecords included
  foregrounds  the same of the other

  python benchmarks/backgrounds_challenge_build.py [--images=450] [--dir=/tmp]

Needs Linux and about 4 GB of disk.
"""

import argparse
import concurrent.futures
import io
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tfds_builders.backgrounds_challenge import small_release  # noqa: E402

BUILDER = 'tfds_builders.backgrounds_challenge'
SIZE = (224, 224)
DISTINCT = 100  # images; more than gzip's window of 32 KB remembers
WORK = {
  'start': f'import {BUILDER}.backgrounds_challenge_dataset_builder',
  'read': (
    'from luab_jax.byproducts.archives import reader\n'
    f'from {BUILDER}.release import ARCHIVE_NAME\n'
    'for _ in reader.iter_members(folder + "/" + ARCHIVE_NAME):\n  pass'
  ),
} | {
  config: (
    'from tfds_builders import build\n'
    f'build.build("backgrounds_challenge/{config}", manual_dir=folder, '
    'data_dir=folder + "/data")'
  )
  for config in ('variations', 'foregrounds')
}


def generate(folder, count):
  """Writes the archive, with JPEGs of smooth noise."""
  rng = np.random.default_rng(0)
  images = []
  for _ in range(DISTINCT):
    file = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (150, 150, 3), np.uint8))
    noise.resize(SIZE, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=75)
    images.append(file.getvalue())
  number = itertools.count()
  small_release.write_archive(
    folder,
    small_release.files(
      count,
      lambda *_: images[next(number) % DISTINCT],
      lambda label, index: small_release.foreground(label, index % 200, size=SIZE),
    ),
  )


def measure(work, folder):
  """Returns seconds, CPU seconds and peak memory in MiB of one piece of work."""
  start = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, '-c', f'folder = {str(folder)!r}\n{work}'],
    cwd=ROOT,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
  )
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    sys.exit(f'failed with status {os.waitstatus_to_exitcode(status)}')
  return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--images', type=int, default=450, help='of a class and variation')
  parser.add_argument('--dir', default=None, help='for the temporary folder')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(dir=args.dir) as name:
    folder = pathlib.Path(name)
    # In another process: a process started by this one begins with its peak of memory.
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
      pool.submit(generate, folder, args.images).result()
    size = (folder / small_release.ARCHIVE_NAME).stat().st_size
    print(f'{9 * 9 * args.images:,} files, {size / 1e6:,.0f} MB', flush=True)
    for what, work in WORK.items():
      seconds, cpu, peak = measure(work, folder)
      print(f'{what:11}  {seconds:6.1f} s, {cpu:6.1f} CPU-s, peak {peak:,.0f} MiB', flush=True)
    built = sum(path.stat().st_size for path in (folder / 'data').rglob('*') if path.is_file())
    print(f'built: {built / 1e6:,.0f} MB')


if __name__ == '__main__':
  main()
