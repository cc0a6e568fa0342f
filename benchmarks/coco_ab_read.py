"""CPU time and memory of reading COCO-AB at the size of the real release.

Writes coco_ab_v1_0.json (82,765 records, about 400 MB) and COCO's instances_train2014.json (82,783
images, 604,907 instances with polygons, in its zip) to a temporary folder. Measured in fresh
processes, start-up excluded:
  json.load  the standard library alone, untyped and unchecked
  read       every record, traces included, as typed numpy records
  join       the same, joined with the instances as the builder does

  python -m benchmarks coco_ab_read [--fraction=1.0] [--dir=/tmp]

Needs Linux, about 2 GB of disk, and for json.load 3 GB of memory.
"""

import json
import pathlib
import tempfile
import zipfile

import numpy as np

from benchmarks import harness
from luab_jax.byproducts import coco_ab

RECORDS, IMAGES, INSTANCES = 82_765, 82_783, 604_907
ZIP, MEMBER = 'annotations_trainval2014.zip', 'annotations/instances_train2014.json'
# Chosen so that a record has the real file's mean length, 4,813 bytes.
MEAN_TRACE = 43


def _point(rng):
  return {'x': rng.random(), 'y': rng.random()}


def make_record(rng, image_id):
  """Returns a record in the released format, of the real mean length, with all digits."""
  actions, where = [], None
  for _ in range(rng.integers(1, 8)):
    to = _point(rng)
    actions.append(
      {
        'actionType': 'move' if where else 'add',
        'iconType': coco_ab.CLASS_NAMES[rng.integers(80)],
        'pointFrom': where,
        'pointTo': to,
        'timeAt': int(rng.integers(1000, 100_000)),
      }
    )
    where = to if rng.random() < 0.2 else None
  return {
    'imageHeight': 450,
    'worker_id': '2F1221006B',
    'imageWidth': 450,
    'hit_id': rng.bytes(16).hex(),
    'image_id': image_id,
    'originalImageHeight': 500,
    'actionHistories': actions,
    'categoryHistories': [
      {
        'categoryIndex': i,
        'categoryName': 'PersonAccessory',
        'timeAt': 1000 + 300 * i,
        'usingKeyboard': False,
      }
      for i in range(11)
    ],
    'page_id': int(rng.integers(20)),
    'mouseTracking': [
      {'timeAt': 1000 + 40 * i, 'x': x, 'y': y}
      for i, (x, y) in enumerate(rng.random((rng.integers(2 * MEAN_TRACE), 2)).tolist())
    ],
    'originalImageWidth': 640,
    'timeSpent': 100_000,
  }


def make_files(folder, fraction):
  """Writes both files, with a fraction of the real number of records, images and instances."""
  rng = np.random.default_rng(0)
  ids = [9 + 7 * i for i in range(round(IMAGES * fraction))]
  with open(folder / coco_ab.FILE_NAME, 'w') as file:
    for number, image_id in enumerate(ids[: round(RECORDS * fraction)]):
      file.write('[' if number == 0 else ', ')
      json.dump(make_record(rng, image_id), file)
    file.write(']')
  with (
    zipfile.ZipFile(folder / ZIP, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    archive.open(MEMBER, 'w', force_zip64=True) as file,
  ):
    images = [
      {
        'license': 3,
        'file_name': f'COCO_train2014_{i:012d}.jpg',
        'height': 480,
        'coco_url': f'http://images.cocodataset.org/train2014/{i:012d}.jpg',
        'width': 640,
        'date_captured': '2013-11-14 11:18:45',
        'id': i,
      }
      for i in ids
    ]
    file.write(b'{"images": ' + json.dumps(images).encode() + b', "annotations": [')
    for number in range(round(INSTANCES * fraction)):
      polygon = (rng.random(rng.integers(8, 95)) * 480).round(2).tolist()
      file.write(
        b', ' * (number > 0)
        + json.dumps(
          {
            'segmentation': [polygon],
            'area': 2765.1486,
            'iscrowd': 0,
            'id': number,
            'image_id': ids[rng.integers(len(ids))],
            'category_id': int(rng.integers(1, 81)),
            'bbox': (rng.random(4) * 200).round(2).tolist(),
          }
        ).encode()
      )
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(coco_ab.CLASS_NAMES)]
    file.write(b'], "categories": ' + json.dumps(categories).encode() + b'}')


# What a fresh process runs, after a definition of `folder`.
_BEGIN = """
import json, pathlib, time
from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab.join import Join
path = pathlib.Path(folder) / coco_ab.FILE_NAME
cpu, began = time.process_time(), time.perf_counter()
"""
_LOAD = """
figures['trace_points'] = sum(len(r['mouseTracking']) for r in json.loads(path.read_bytes()))
"""
_READ = """
figures['trace_points'] = sum(len(r.trace_xy) for r in coco_ab.read_records(path))
"""
_JOIN = f"""
join = Join()
assert not list(join.add_records(coco_ab.read_records(path)))
join.add_instances(path.parent / {ZIP!r}, {MEMBER!r})
"""
_END = """
figures.update(cpu_seconds=time.process_time() - cpu, seconds=time.perf_counter() - began)
"""


def main():
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--fraction', type=float, default=1.0, help='of the real size')
  parser.add_argument('--dir', default=None, help='where the temporary folder goes')
  parser.add_argument('--tiny', action='store_true', help='a thousandth, for tests')
  options = parser.parse_args()
  fraction = 0.001 if options.tiny else options.fraction
  works = {'json.load': _LOAD, 'read': _READ, 'joined with the instances': _JOIN}
  with tempfile.TemporaryDirectory(dir=options.dir) as name:
    folder = pathlib.Path(name)
    make_files(folder, fraction)
    size = (folder / coco_ab.FILE_NAME).stat().st_size
    result = harness.compare(
      f'a pass over {round(RECORDS * fraction):,} records of COCO-AB',
      {
        what: harness.fresh_process(f'folder = {name!r}\n{_BEGIN}{code}{_END}')
        for what, code in works.items()
      },
      rounds=options.rounds,
      warmup=0,
      show=['cpu_seconds', 'seconds', 'peak_mib'],
    )
  points = harness.median(result, 'read', 'trace_points')
  assert points == harness.median(result, 'json.load', 'trace_points') > 0, points
  peak = harness.median(result, 'joined with the instances', 'peak_mib')
  goals = [
    harness.goal('CPU-seconds', harness.median(result, 'read', 'cpu_seconds'), at_most=6),
    harness.goal('peak MiB, joined with the instances', peak, at_most=1430),
  ]
  notes = [f'{size / 1e6:.0f} MB, {points:,.0f} trace points.']
  harness.record('coco_ab_read', result, goals, notes=notes, results=options.results)
