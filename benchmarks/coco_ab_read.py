"""CPU time and memory of reading COCO-AB at the size of the real release.

Generates coco_ab_v1_0.json (82,765 records, about 398 MB) and COCO's instances_train2014.json
(82,783 images, 604,907 instances with polygons, in its zip) in a temporary folder, then measures
in fresh processes, in CPU seconds and peak resident memory:
  start  Python with the modules imported, nothing read
  read   every record of the json, traces included, as typed numpy records
  join   the same into the builder's temporary file, and the instances too

  python benchmarks/coco_ab_read.py [--share=1.0] [--dir=/tmp]

Needs Linux and about 2 GB of disk.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from luab_jax import archives  # noqa: E402
from luab_jax.byproducts import coco  # noqa: E402
from tfds_builders.coco_ab.join import Join  # noqa: E402

RECORDS, IMAGES, INSTANCES = 82_765, 82_783, 604_907
ZIP, MEMBER = 'annotations_trainval2014.zip', 'annotations/instances_train2014.json'
# Chosen so that a record has the real file's mean length, 4,813 bytes.
MEAN_TRACE = 43


def _point(rng):
  return {'x': rng.random(), 'y': rng.random()}


def make_record(rng, image_id):
  """One record as released, of the real mean length; numbers with all their digits."""
  actions, where = [], None
  for _ in range(rng.integers(1, 8)):
    to = _point(rng)
    actions.append({
        'actionType': 'move' if where else 'add', 'iconType': coco.CLASS_NAMES[rng.integers(80)],
        'pointFrom': where, 'pointTo': to, 'timeAt': int(rng.integers(1000, 100_000))})
    where = to if rng.random() < 0.2 else None
  return {
      'imageHeight': 450, 'worker_id': '2F1221006B', 'imageWidth': 450,
      'hit_id': rng.bytes(16).hex(), 'image_id': image_id, 'originalImageHeight': 500,
      'actionHistories': actions,
      'categoryHistories': [
          {'categoryIndex': i, 'categoryName': 'PersonAccessory', 'timeAt': 1000 + 300 * i,
           'usingKeyboard': False} for i in range(11)],
      'page_id': int(rng.integers(20)),
      'mouseTracking': [{'timeAt': 1000 + 40 * i, 'x': x, 'y': y} for i, (x, y) in enumerate(
          rng.random((rng.integers(2 * MEAN_TRACE), 2)).tolist())],
      'originalImageWidth': 640, 'timeSpent': 100_000}


def make_files(folder, share):
  """Writes both files; `share` of the real number of records, images and instances."""
  rng = np.random.default_rng(0)
  ids = [9 + 7 * i for i in range(round(IMAGES * share))]
  with open(folder / coco.FILE_NAME, 'w') as file:
    for number, image_id in enumerate(ids[: round(RECORDS * share)]):
      file.write('[' if number == 0 else ', ')
      json.dump(make_record(rng, image_id), file)
    file.write(']')
  with zipfile.ZipFile(folder / ZIP, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive, \
      archive.open(MEMBER, 'w', force_zip64=True) as file:
    images = [{'license': 3, 'file_name': f'COCO_train2014_{i:012d}.jpg', 'height': 480,
               'coco_url': f'http://images.cocodataset.org/train2014/{i:012d}.jpg', 'width': 640,
               'date_captured': '2013-11-14 11:18:45', 'id': i} for i in ids]
    file.write(b'{"images": ' + json.dumps(images).encode() + b', "annotations": [')
    for number in range(round(INSTANCES * share)):
      polygon = (rng.random(rng.integers(8, 95)) * 480).round(2).tolist()
      file.write(b', ' * (number > 0) + json.dumps({
          'segmentation': [polygon], 'area': 2765.1486, 'iscrowd': 0, 'id': number,
          'image_id': ids[rng.integers(len(ids))], 'category_id': int(rng.integers(1, 81)),
          'bbox': (rng.random(4) * 200).round(2).tolist()}).encode())
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(coco.CLASS_NAMES)]
    file.write(b'], "categories": ' + json.dumps(categories).encode() + b'}')


def measure(task, folder):
  """Runs in a process of its own: does the task and prints its cost."""
  before = time.process_time()
  counts = {'records': 0, 'trace_points': 0}
  if task == 'read':
    for record in coco.read_records(folder / coco.FILE_NAME):
      counts['records'] += 1
      counts['trace_points'] += len(record.trace_xy)
  elif task == 'join':
    join = Join(folder)
    twins = sum(1 for _ in join.add_records(coco.read_records(folder / coco.FILE_NAME)))
    join.add_instances(folder / ZIP, MEMBER)
    images, records, _ = join.unused()
    counts = {'records': records, 'twins': twins, 'images': images}
  status = pathlib.Path('/proc/self/status').read_text()
  peak = next(line for line in status.splitlines() if line.startswith('VmHWM')).split()[1]
  print(json.dumps({'task': task, 'cpu_seconds': round(time.process_time() - before, 1),
                    'peak_rss_mb': round(int(peak) * 1024 / 1e6), **counts}))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--share', type=float, default=1.0, help='of the real size')
  parser.add_argument('--dir', default=None, help='where the temporary folder goes')
  parser.add_argument('--measure', nargs=2, metavar=('TASK', 'FOLDER'), help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.measure:
    measure(args.measure[0], pathlib.Path(args.measure[1]))
    return
  with tempfile.TemporaryDirectory(dir=args.dir) as name:
    folder = pathlib.Path(name)
    make_files(folder, args.share)
    size = (folder / coco.FILE_NAME).stat().st_size
    with archives.open_zip_member(folder / ZIP, MEMBER) as file:
      instances = sum(len(block) for block in iter(lambda: file.read(1 << 20), b''))
    print(f'{coco.FILE_NAME}: {size / 1e6:.0f} MB; {MEMBER}: {instances / 1e6:.0f} MB', flush=True)
    for task in ('start', 'read', 'join'):
      subprocess.run([sys.executable, __file__, '--measure', task, name], check=True)


if __name__ == '__main__':
  main()
