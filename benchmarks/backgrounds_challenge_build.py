"""Time and memory of building backgrounds_challenge from an archive of the real number of files.

Writes backgrounds_challenge_data.tar.gz into a temporary folder: 9 classes × 450 images × 8
variations and 4,050 masks, all at 224 px (we do not know the real size of the archive; these JPEGs
take about 27 KB each, 0.9 GB in all). Measured in fresh processes, start-up included:
  start        Python with TensorFlow, TFDS and the builder imported, nothing read
  read         one pass over the archive: what each of eight splits would cost without the spool
  variations   a whole build of this config, TFRecords included
  foregrounds  the same for the other config

  python -m benchmarks backgrounds_challenge_build [--images=450] [--dir=/tmp]

Needs Linux and about 4 GB of disk.
"""

import io
import itertools
import pathlib
import tempfile

import numpy as np
from PIL import Image

from benchmarks import harness

BUILDER = 'tfds_builders.backgrounds_challenge'
SIZE = (224, 224)
DISTINCT = 100  # images; more than gzip's window of 32 KB remembers
READ = f"""
from luab_jax.byproducts.archives import reader
from {BUILDER}.release import ARCHIVE_NAME
for _ in reader.iter_members(folder + '/' + ARCHIVE_NAME):
  pass
"""
BUILD = """
import shutil
from tfds_builders import build
shutil.rmtree(folder + '/data', ignore_errors=True)
build.build('backgrounds_challenge/{}', manual_dir=folder, data_dir=folder + '/data')
"""


def generate(folder, count):
  """Writes the archive, with JPEGs of smooth noise."""
  from tfds_builders.backgrounds_challenge import small_release

  rng = np.random.default_rng(0)
  images = []
  for _ in range(DISTINCT):
    file = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (150, 150, 3), np.uint8))
    noise.resize(SIZE, Image.Resampling.BICUBIC).save(file, 'JPEG', quality=75)
    images.append(file.getvalue())
  number = itertools.count()
  files = small_release.files(
    count,
    lambda *_: images[next(number) % DISTINCT],
    lambda label, index: small_release.foreground(label, index % 200, size=SIZE),
  )
  small_release.write_archive(folder, files)


def main():
  parser = harness.parser(__doc__, rounds=1)
  parser.add_argument('--images', type=int, default=450, help='per class and variation')
  parser.add_argument('--dir', default=None, help='for the temporary folder')
  parser.add_argument('--tiny', action='store_true', help='a few files, for tests')
  options = parser.parse_args()
  count = 2 if options.tiny else options.images
  works = {
    'start': f'import {BUILDER}.backgrounds_challenge_dataset_builder',
    'read': READ,
    'variations': BUILD.format('variations'),
    'foregrounds': BUILD.format('foregrounds'),
  }
  with tempfile.TemporaryDirectory(dir=options.dir) as name:
    generate(pathlib.Path(name), count)
    result = harness.compare(
      f'backgrounds_challenge, {9 * 9 * count:,} files',
      {
        what: harness.fresh_process(f'folder = {name!r}\n{code}', TF_CPP_MIN_LOG_LEVEL='3')
        for what, code in works.items()
      },
      rounds=options.rounds,
      warmup=0,
      show=['seconds', 'cpu_seconds', 'peak_mib'],
    )
  harness.record('backgrounds_challenge_build', result, results=options.results)
