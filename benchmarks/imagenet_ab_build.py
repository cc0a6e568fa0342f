"""CPU time and memory of reading ImageNet-AB's XMLs and of building imagenet_ab.

Writes images (photograph-like noise, about 73 KB at 500 × 375) in a tar of class tars and
imagenet_ab_v1_0.tar.gz (with XMLs of the real compressed size, 555 MB / 1.27 M) to a temporary
folder. Measured in fresh processes, start-up excluded:
  reading   every XML streamed from the tar.gz, sha256 included, and parsed to typed records; and
            ElementTree alone on files in memory
  building  imagenet_ab/local, TFRecords included, on all cores and on one; and TFDS's own way to
            pack the same images, undecoded and without byproducts

  python -m benchmarks imagenet_ab_build [--xmls=15000] [--images=2000] [--width=500] [--dir=/tmp]
                                         [--only=reading]

A tenth of the real release, with tiny images: --xmls=127000 --images=128000 --width=32.
"""

import hashlib
import io
import pathlib
import tarfile
import tempfile

import numpy as np
from PIL import Image

from benchmarks import harness

CLASSES = 100
XML_NAME = 'imagenet_ab_v1_0.tar.gz'
REAL_XML_BYTES = 555e6 / 1.27e6
REAL_IMAGES = 1_331_167  # training and validation
MEAN_TRACE = 27  # points per file; chosen so that a file takes the real 437 bytes of the tar.gz

ONE_CORE = 'os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])'

# What a fresh process runs, after definitions of `folder` and `digest`.
_TIMED = """
import time
from benchmarks import harness
def timed(work, units):
  cpu, began = harness.cpu_seconds(), time.perf_counter()
  work()
  figures.update(units=units, cpu_seconds=(harness.cpu_seconds() - cpu) / units,
                 seconds=(time.perf_counter() - began) / units)
"""
READ = (
  _TIMED
  + f"""
from luab_jax.byproducts import imagenet_ab
from luab_jax.byproducts.archives import reader
from xml.etree import ElementTree
def trees(files):
  for data in files:
    ElementTree.fromstring(data)
def read():
  for _, data in reader.iter_members(folder + '/{XML_NAME}', sha256=digest):
    imagenet_ab.parse_xml(data)
"""
)
BUILD = (
  _TIMED
  + """
import contextlib, os, shutil
import tensorflow as tf
import tensorflow_datasets as tfds
from benchmarks import imagenet_ab_peer
from tfds_builders import build
from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder
tfds.disable_progress_bar()
tf.io.decode_image(open(folder + '/one.jpg', 'rb').read())
data = folder + '/data'
shutil.rmtree(data, ignore_errors=True)
def ours():
  with contextlib.redirect_stdout(None):
    build.build('imagenet_ab/local', manual_dir=folder, data_dir=data)
def peer():
  imagenet_ab_peer.ImagesAlone(data_dir=data).download_and_prepare(
      download_dir=data, download_config=tfds.download.DownloadConfig(manual_dir=folder))
"""
)


def make_xml(rng, name):
  """Returns the XML of a selected image, in the released format, with all digits."""
  width, height = int(rng.integers(150, 250)), 250
  start = 1_640_000_000_000 + int(rng.integers(10**10))
  count = int(rng.geometric(1 / MEAN_TRACE))
  xs, ys = rng.integers(width, size=count) / width, rng.integers(height, size=count) / height
  times = start + np.cumsum(rng.integers(15, 60, size=count))
  trace = ''.join(
    f'<mouseTracking>\n      <time>{t}</time>\n      <x>{x}</x>\n      <y>{y}</y>\n    '
    '</mouseTracking>\n    '
    for t, x, y in zip(times, xs, ys, strict=True)
  )
  return f"""<annotation>
  <filename>{name}</filename>
  <folder>{name.partition('_')[0]}</folder>
  <metadata>
    <assignment_id>{rng.bytes(13).hex().upper()}</assignment_id>
    <estimateTime>{times[-1] - start}</estimateTime>
    <hit_id>3QMELQS6ZE39BAEVSNAKOD7WBS4R6Q</hit_id>
    <hoveredRecord>
      <action>enter</action>
      <time>{start}</time>
    </hoveredRecord>
    <imageHeight>{height}</imageHeight>
    <imagePosition>
      <x>{rng.integers(1500)}</x>
      <y>{rng.integers(3000)}</y>
    </imagePosition>
    <imageWidth>{width}</imageWidth>
    {trace}<originalImageHeight>375</originalImageHeight>
    <originalImageWidth>500</originalImageWidth>
    <selected>True</selected>
    <selectedCount>1</selectedCount>
    <selectedRecord>
      <time>{times[-1]}</time>
      <x>{xs[-1]}</x>
      <y>{ys[-1]}</y>
    </selectedRecord>
    <worker_id>47DBDD543E</worker_id>
  </metadata>
</annotation>
""".encode()


def add(tar, name, data):
  """Adds one file to a tar."""
  info = tarfile.TarInfo(name)
  info.size = len(data)
  tar.addfile(info, io.BytesIO(data))
  tar.members = []  # else tarfile keeps a million of them


def make_image(rng, width):
  """Returns a 4:3 JPEG: soft shapes under noise, so that 500 × 375 pixels take about 73 KB."""
  size = width, width * 3 // 4
  shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
    size, Image.Resampling.BICUBIC
  )
  pixels = np.asarray(shapes, np.int16) + rng.normal(0, 11, (*size[::-1], 1)).astype(np.int16)
  file = io.BytesIO()
  Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, 'JPEG', quality=87)
  return file.getvalue()


def write_images(path, rng, count, width):
  """Writes a tar of class tars; returns the (class, stem) of each image."""
  stems = []
  images = [make_image(rng, width) for _ in range(min(50, count))]
  path.with_name('one.jpg').write_bytes(images[0])
  with tarfile.open(path, 'w') as outer:
    for number in range(min(CLASSES, count)):
      name = f'n{number:08d}'
      inner = io.BytesIO()
      with tarfile.open(fileobj=inner, mode='w') as tar:
        for index in range(number, count, CLASSES):
          stems.append((name, f'{name}_{path.stem}_{index}'))
          add(tar, f'{stems[-1][1]}.JPEG', images[index % len(images)])
      add(outer, f'{name}.tar', inner.getvalue())
  return stems


def write_xmls(path, rng, stems):
  """Writes an XML for each (class, stem), in random order."""
  with tarfile.open(path, 'w:gz', compresslevel=6) as tar:
    for index in rng.permutation(len(stems)):
      name, stem = stems[index]
      add(tar, f'train_xml/{name}/{stem}.xml', make_xml(rng, stem))


def reading(folder, options):
  """Measures the reader of XMLs; returns (result, goals, notes)."""
  xmls, archive = options.xmls, folder / XML_NAME
  stems = [(f'n{i % CLASSES:08d}', f'n{i % CLASSES:08d}_{i}') for i in range(xmls)]
  write_xmls(archive, np.random.default_rng(0), stems)
  digest = hashlib.sha256(archive.read_bytes()).hexdigest()
  code = f'folder, digest = {str(folder)!r}, {digest!r}\n{READ}'
  in_memory = f"files = [data for _, data in reader.iter_members(folder + '/{XML_NAME}')]"
  result = harness.compare(
    f'{xmls:,} XMLs out of the tar.gz',
    {
      'ElementTree alone, in memory': harness.fresh_process(
        f'{code}\n{in_memory}\ntimed(lambda: trees(files), {xmls})'
      ),
      'luab_jax': harness.fresh_process(f'{code}\ntimed(read, {xmls})'),
    },
    rounds=options.rounds,
    unit='XMLs',
    warmup=0,
    show=['XMLs/CPU-s', 'peak_mib'],
  )
  size = archive.stat().st_size / xmls
  return result, [], [f'{size:.0f} bytes of the tar.gz per XML (real: {REAL_XML_BYTES:.0f}).']


def building(folder, options):
  """Measures builds; returns (result, goals, notes)."""
  train, validation = options.images, max(options.images // 20, 1)
  images, rng = train + validation, np.random.default_rng(1)
  tar = folder / 'my_img_train.tar'
  write_xmls(folder / XML_NAME, rng, write_images(tar, rng, train, options.width))
  write_images(folder / 'my_img_val.tar', rng, validation, options.width)
  code = f'folder = {str(folder)!r}\n{BUILD}'
  ours = f'timed(ours, {images})'
  one_core = {'luab_jax, one core': harness.fresh_process(f'{code}\n{ONE_CORE}\n{ours}')}
  result = harness.compare(
    f'building imagenet_ab of {images:,} images',
    {
      'TFDS, images alone': harness.fresh_process(f'{code}\ntimed(peer, {images})'),
      'luab_jax': harness.fresh_process(f'{code}\n{ours}'),
    }
    | ({} if options.tiny else one_core),
    rounds=options.rounds,
    unit='images',
    warmup=0,
    show=['images/CPU-s', 'images/s', 'peak_mib'],
  )
  hours = harness.median(result, 'luab_jax', 'cpu_seconds') * REAL_IMAGES / 3600
  goals = [
    harness.goal(f'CPU-hours for {REAL_IMAGES:,} of them', hours, at_most=1),
    harness.goal('peak MiB', harness.median(result, 'luab_jax', 'peak_mib'), at_most=1430),
  ]
  return result, goals, [f'{tar.stat().st_size / train / 1e3:.0f} KB per image.']


def main():
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--xmls', type=int, default=15_000)
  parser.add_argument('--images', type=int, default=2000)
  parser.add_argument('--width', type=int, default=500, help='of the images, in pixels; 4:3')
  parser.add_argument('--only', choices=['reading', 'building'])
  parser.add_argument('--tiny', action='store_true', help='a few small files, for tests')
  parser.add_argument('--dir', default=None, help='for the temporary folder')
  options = parser.parse_args()
  if options.tiny:
    options.xmls, options.images, options.width = 20, 20, 32
  for work in (reading, building):
    if options.only in (None, work.__name__):
      with tempfile.TemporaryDirectory(dir=options.dir) as name:
        result, goals, notes = work(pathlib.Path(name), options)
      harness.record('imagenet_ab_build', result, goals, notes=notes, results=options.results)
