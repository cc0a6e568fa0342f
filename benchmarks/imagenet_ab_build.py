"""Memory and CPU time of building imagenet_ab at a share of the real size.

Generates ILSVRC2012_img_train.tar (1000 classes, 1,281,167 × share tiny images),
ILSVRC2012_img_val.tar and imagenet_ab_v1_0.tar.gz (1,270,000 × share XMLs in random order, each
as large compressed as in the real release, 555 MB / 1.27 M) in a temporary folder, then measures
in fresh processes, in CPU seconds and peak resident memory:
  start  Python with TensorFlow, TFDS and the builder imported, nothing read
  read   every XML streamed from the tar.gz, sha256 included, and parsed to typed records
  index  every XML streamed into the builder's temporary file
  build  the whole build of imagenet_ab/local, TFRecords included

  python benchmarks/imagenet_ab_build.py [--share=0.1] [--image_bytes=6000] [--dir=/tmp]

Needs Linux; a share of 0.1 takes about 3 GB of disk. What grows with the share: of the build, the
flags of used XMLs (1 byte each) and TFDS's bucket of 1/1000 of the split that it sorts in memory
(140 MB at full size with real images).
"""

import argparse
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLASSES, TRAIN, VALIDATION, XMLS = 1000, 1_281_167, 50_000, 1_270_000
XML_NAME = 'imagenet_ab_v1_0.tar.gz'
REAL_XML_ARCHIVE_BYTES = 555e6
MEAN_TRACE = 27  # points a file; chosen so that a file takes the real 437 bytes of the tar.gz

WORK = {
    'start': 'import tfds_builders.imagenet_ab.imagenet_ab_dataset_builder',
    'read': (
        'from luab_jax import archives\n'
        'from luab_jax.byproducts.imagenet import parse_xml\n'
        f'for _, data in archives.iter_members(folder + "/{XML_NAME}", sha256=digest):\n'
        '  parse_xml(data)'),
    'index': (
        'from luab_jax import archives\n'
        'from tfds_builders.imagenet_ab.xml_store import XmlStore\n'
        'with XmlStore(folder) as store:\n'
        f'  for name in archives.iter_class_members(folder + "/{XML_NAME}", sha256=digest):\n'
        '    store.add(*name)'),
    'build': (
        'from tfds_builders import build\n'
        'build.build("imagenet_ab/local", manual_dir=folder, data_dir=folder + "/data")'),
}


def make_xml(rng, name):
  """Returns one XML of a selected image, laid out as released, numbers with all their digits."""
  width, height = int(rng.integers(150, 250)), 250
  start = 1_640_000_000_000 + int(rng.integers(10**10))
  count = int(rng.geometric(1 / MEAN_TRACE))
  xs, ys = rng.integers(width, size=count) / width, rng.integers(height, size=count) / height
  times = start + np.cumsum(rng.integers(15, 60, size=count))
  trace = ''.join(
      f'<mouseTracking>\n      <time>{t}</time>\n      <x>{x}</x>\n      <y>{y}</y>\n    '
      '</mouseTracking>\n    ' for t, x, y in zip(times, xs, ys, strict=True))
  return f'''<annotation>
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
'''.encode()


def add(tar, name, data):
  """Adds one file to a tar."""
  info = tarfile.TarInfo(name)
  info.size = len(data)
  tar.addfile(info, io.BytesIO(data))
  tar.members = []  # or tarfile keeps a million of them


def make_image(rng, image_bytes):
  """Returns a JPEG of 32 × 32 pixels of noise, padded behind its end to the wanted size."""
  file = io.BytesIO()
  Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file, 'JPEG')
  return file.getvalue().ljust(image_bytes, b'\0')


def write_images(path, rng, split, count, image_bytes):
  """Writes a tar of class tars and returns the stems of the images."""
  stems = []
  images = [make_image(rng, image_bytes) for _ in range(50)]
  with tarfile.open(path, 'w') as outer:
    for number in range(min(CLASSES, count)):
      name = f'n{number:08d}'
      inner = io.BytesIO()
      with tarfile.open(fileobj=inner, mode='w') as tar:
        for index in range(number, count, CLASSES):
          stems.append(f'{name}_{split}{index}')
          add(tar, f'{stems[-1]}.JPEG', images[index % len(images)])
      add(outer, f'{name}.tar', inner.getvalue())
  return stems


def generate(folder, share, image_bytes):
  """Writes the release and returns (number of images, number of XMLs)."""
  rng = np.random.default_rng(0)
  stems = write_images(
      folder / 'ILSVRC2012_img_train.tar', rng, '', round(TRAIN * share), image_bytes)
  validation = write_images(
      folder / 'ILSVRC2012_img_val.tar', rng, 'val', round(VALIDATION * share), image_bytes)
  chosen = rng.permutation(len(stems))[:round(XMLS * share)]
  with tarfile.open(folder / XML_NAME, 'w:gz', compresslevel=6) as tar:
    for index in chosen:
      stem = stems[index]
      add(tar, f'train_xml/{stem.partition("_")[0]}/{stem}.xml', make_xml(rng, stem))
  return len(stems) + len(validation), len(chosen)


def measure(work, folder, digest):
  """Runs one piece of work in a fresh process; returns its CPU seconds and peak memory in MiB."""
  code = f'folder, digest = {str(folder)!r}, {digest!r}\n{work}'
  process = subprocess.Popen(
      [sys.executable, '-c', code], cwd=ROOT, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    sys.exit(f'failed with status {os.waitstatus_to_exitcode(status)}')
  return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--share', type=float, default=0.1)
  parser.add_argument('--image_bytes', type=int, default=6000)
  parser.add_argument('--dir', default=None, help='for the temporary folder')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(dir=args.dir) as name:
    folder = pathlib.Path(name)
    images, xmls = generate(folder, args.share, args.image_bytes)
    archive = folder / XML_NAME
    with archive.open('rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    print(f'{images:,} images of {args.image_bytes} bytes; {xmls:,} XMLs of '
          f'{archive.stat().st_size / xmls:.0f} bytes of the tar.gz '
          f'(real: {REAL_XML_ARCHIVE_BYTES / XMLS:.0f})', flush=True)
    for what, count, unit in (('start', 0, ''), ('read', xmls, 'XMLs'), ('index', xmls, 'XMLs'),
                              ('build', images, 'images')):
      seconds, peak = measure(WORK[what], folder, digest)
      rate = f', {count / seconds:,.0f} {unit} per CPU-second' if count else ''
      print(f'{what:5}  {seconds:6.1f} CPU-s, peak {peak:,.0f} MiB{rate}', flush=True)


if __name__ == '__main__':
  main()
