"""CPU time and memory of reading COCO-AB at the size of the real release.

Generates coco_ab_v1_0.json (82,765 records, about 398 MB) and COCO's instances_train2014.json
(82,783 images, 604,907 instances with polygons, in its zip) in a temporary folder. Measured in
fresh processes, start-up not counted:
  read   every record of the json, traces included, as typed numpy records; and json.load alone
  join   the same held in the builder's join, and the instances too

  python -m benchmarks coco_ab_read [--share=1.0] [--dir=/tmp]

Needs Linux and about 2 GB of disk.
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
  """One record as released, of the real mean length; numbers with all their digits."""
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


def make_files(folder, share):
  """Writes both files; `share` of the real number of records, images and instances."""
  rng = np.random.default_rng(0)
  ids = [9 + 7 * i for i in range(round(IMAGES * share))]
  with open(folder / coco_ab.FILE_NAME, 'w') as file:
    for number, image_id in enumerate(ids[: round(RECORDS * share)]):
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
    for number in range(round(INSTANCES * share)):
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


# What a fresh process does; `folder` stands before it.
_BEGIN = """
import pathlib, time
import json
from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab.join import Join
path = pathlib.Path(folder) / coco_ab.FILE_NAME
cpu, began, points = time.process_time(), time.perf_counter(), 0
"""
_READ = """
for record in coco_ab.read_records(path):
  points += len(record.trace_xy)
"""
_STANDARD_LIBRARY = """
with open(path) as file:
  points = sum(len(record['mouseTracking']) for record in json.load(file))
"""
_JOIN = f"""
join = Join()
assert not list(join.add_records(coco_ab.read_records(path)))
join.add_instances(path.parent / {ZIP!r}, {MEMBER!r})
"""
_END = """
figures.update(units=1, trace_points=points, cpu_seconds=time.process_time() - cpu,
               seconds=time.perf_counter() - began)
"""


def main():
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--share', type=float, default=1.0, help='of the real size')
  parser.add_argument('--dir', default=None, help='where the temporary folder goes')
  parser.add_argument('--tiny', action='store_true', help='a thousandth, for tests')
  options = parser.parse_args()
  share = 0.001 if options.tiny else options.share
  with tempfile.TemporaryDirectory(dir=options.dir) as name:
    folder = pathlib.Path(name)
    make_files(folder, share)
    size = (folder / coco_ab.FILE_NAME).stat().st_size
    begin = f'folder = {name!r}\n{_BEGIN}'
    result = harness.compare(
      f'a pass over {round(RECORDS * share):,} records of COCO-AB',
      {
        'json.load': harness.fresh_process(f'{begin}{_STANDARD_LIBRARY}{_END}'),
        'luab_jax': harness.fresh_process(f'{begin}{_READ}{_END}'),
        'luab_jax, joined with the instances': harness.fresh_process(f'{begin}{_JOIN}{_END}'),
      },
      rounds=options.rounds,
      warmup=0,
      show=['cpu_seconds', 'seconds', 'peak_mib'],
    )
  found = {
    name: figures.get('trace_points', {}).get('median')
    for name, figures in result['alternatives'].items()
  }
  assert found['luab_jax'] == found['json.load'] > 0, found
  harness.record(
    'coco_ab_read',
    result,
    [],
    results=options.results,
    notes=[f'{size / 1e6:.0f} MB, {found["luab_jax"]:,.0f} trace points.'],
  )


if __name__ == '__main__':
  main()
