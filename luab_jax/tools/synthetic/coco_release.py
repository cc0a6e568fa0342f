"""Writes the synthetic COCO-AB: image zips, instances and the workers' records.

| file | content |
|---|---|
| train2014.zip, val2014.zip | train2014/COCO_train2014_%012d.jpg (val likewise), 1 to 4 objects |
| annotations_trainval2014.zip | annotations/instances_{train,val}2014.json, all 80 categories |
| coco_ab_v1_0.json | one record of a worker for most training images |

The texture is correlated with the class of an image's first object, in both splits.
"""

import json
import pathlib

import numpy as np
from tqdm import tqdm

from luab_jax.byproducts import coco_ab_writer
from luab_jax.byproducts.archives import writer
from luab_jax.byproducts.coco_ab import CLASS_NAMES, CocoRecord
from luab_jax.tools.synthetic import behaviour, icons, scene
from luab_jax.tools.synthetic.imagenet_release import encode_jpeg

CLASSES = ('sports ball', 'donut', 'book', 'pizza', 'airplane', 'kite')  # names of scene.SHAPES
SPLITS = ('train', 'val')

_RADIUS = (0.105, 0.155)  # of the short side: 5 to 7.5 of 48 pixels, so that four objects fit
_FIRST_ID = {'train': 900_000_001, 'val': 950_000_001}  # no real image has such an id
_DATE = '2022-01-01 00:00:00'

# COCO 2014: (supercategory, number of its classes), in the order of the category ids.
_SUPERCATEGORIES = (
  ('person', 1),
  ('vehicle', 8),
  ('outdoor', 5),
  ('animal', 10),
  ('accessory', 5),
  ('sports', 10),
  ('kitchen', 7),
  ('food', 10),
  ('furniture', 6),
  ('electronic', 6),
  ('appliance', 5),
  ('indoor', 7),
)
_IDS = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
CATEGORIES: tuple[dict, ...] = tuple(
  {'supercategory': group, 'id': number, 'name': name}
  for group, number, name in zip(
    [group for group, count in _SUPERCATEGORIES for _ in range(count)],
    _IDS,
    CLASS_NAMES,
    strict=True,
  )
)
_CATEGORY_ID = {category['name']: category['id'] for category in CATEGORIES}
_PAGE_OF = {
  category['name']: page
  for category in CATEGORIES
  for page, (_, groups) in enumerate(icons.PAGES)
  if category['supercategory'] in groups
}


def draw(seed: int, split: str, index: int, correlation: float, size: int) -> scene.Scene:
  """Draws image `index` of a split, with 1 to 4 objects.

  Args:
    seed: non-negative.
    split: one of SPLITS.
    index: from 0; the class of the first object is `index % len(CLASSES)`.
    correlation: probability that the texture is that of the first object's class.
    size: short side in pixels.
  """
  rng = np.random.default_rng([seed, 2, SPLITS.index(split), index, 0])
  first = index % len(CLASSES)
  others = rng.integers(len(CLASSES), size=rng.integers(4)).tolist()
  texture = scene.choose_texture(rng, first, correlation)
  return scene.draw_scene(rng, [first, *others], texture, size, _RADIUS)


def write(
  out: pathlib.Path, seed: int, train: int, validation: int, correlation: float, size: int
) -> dict[str, int]:
  """Writes the four files.

  Args:
    out: existing folder.
    seed, correlation, size: see `draw`.
    train, validation: numbers of images.

  Returns:
    {what: how many}.
  """
  counts = {'training images': train, 'validation images': validation}
  records: list[CocoRecord] = []
  with (
    tqdm(total=train + validation, unit='image', desc='coco_ab', disable=None) as bar,
    writer.zip_file(out / 'annotations_trainval2014.zip') as annotations,
  ):
    for split, number in (('train', train), ('val', validation)):
      images, instances = [], []
      with writer.zip_file(out / f'{split}2014.zip') as archive:
        for index in range(number):
          drawn = draw(seed, split, index, correlation, size)
          image = _image_entry(drawn, split, index)
          writer.add_to_zip(archive, f'{split}2014/{image["file_name"]}', encode_jpeg(drawn.pixels))
          images.append(image)
          instances += _instances(drawn, image['id'], seed)
          if split == 'train':
            records += _simulate(drawn, image['id'], seed)
          bar.update()
      writer.add_to_zip(
        annotations,
        f'annotations/instances_{split}2014.json',
        json.dumps(_instances_file(images, instances)).encode(),
        compress=True,
      )
      counts[f'instances in {split}'] = len(instances)
  with writer.replacing(out / 'coco_ab_v1_0.json') as file:
    file.write(coco_ab_writer.to_json(records))
  counts['records'] = len(records)
  counts['actions'] = sum(len(record.actions.icon) for record in records)
  return counts


def _image_entry(drawn: scene.Scene, split: str, index: int) -> dict:
  number = _FIRST_ID[split] + index
  return {
    'license': 1,
    'file_name': f'COCO_{split}2014_{number:012d}.jpg',
    'coco_url': '',
    'height': drawn.height,
    'width': drawn.width,
    'date_captured': _DATE,
    'flickr_url': '',
    'id': number,
  }


def _instances_file(images: list[dict], instances: list[dict]) -> dict:
  info = {
    'description': f'{scene.LABEL}: drawn by a program, not COCO',
    'url': '',
    'version': '1.0',
    'year': 2022,
    'contributor': 'luab_jax',
    'date_created': _DATE,
  }
  licenses = [{'url': '', 'id': 1, 'name': scene.LABEL}]
  return {
    'images': images,
    'annotations': instances,
    'categories': list(CATEGORIES),
    'type': 'instances',
    'info': info,
    'licenses': licenses,
  }


def _instances(drawn: scene.Scene, image_id: int, seed: int) -> list[dict]:
  """Returns the annotations of one image; several objects of a class are sometimes one crowd."""
  rng = np.random.default_rng([seed, 2, image_id, 2])
  entries: list[tuple] = []
  for shape in sorted({obj.shape for obj in drawn.objects}):
    members = [obj for obj in drawn.objects if obj.shape == shape]
    if len(members) > 1 and rng.random() < 0.15:
      entries.append(_crowd(members, drawn))
    else:
      entries += [
        (obj.box, obj.area, [obj.outline.ravel().round(2).tolist()], 0, shape) for obj in members
      ]
  return [
    {
      'segmentation': segmentation,
      'area': round(area, 2),
      'iscrowd': is_crowd,
      'image_id': image_id,
      'bbox': _xywh(box),
      'category_id': _CATEGORY_ID[CLASSES[shape]],
      'id': image_id * 10 + number,
    }
    for number, (box, area, segmentation, is_crowd, shape) in enumerate(entries)
  ]


def _crowd(members: list[scene.Object], drawn: scene.Scene) -> tuple:
  """Returns one annotation of several objects: uncompressed run lengths, column by column."""
  mask = np.sum([scene.coverage(obj, drawn.width, drawn.height) for obj in members], axis=0) > 0.5
  flat = np.concatenate([[False], mask.ravel(order='F'), [not mask[-1, -1]]])
  ends = np.flatnonzero(flat[1:] != flat[:-1])  # the first run counts zeros and may be empty
  runs = {'counts': np.diff(ends, prepend=0).tolist(), 'size': [drawn.height, drawn.width]}
  boxes = np.array([obj.box for obj in members])
  box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
  return box, float(mask.sum()), runs, 1, members[0].shape


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
  xmin, ymin, xmax, ymax = (round(v, 2) for v in box)
  return [xmin, ymin, round(xmax - xmin, 2), round(ymax - ymin, 2)]


def _simulate(drawn: scene.Scene, image_id: int, seed: int) -> list[CocoRecord]:
  """Returns the record of one training image in a list, which is empty for one image in fifty."""
  rng = np.random.default_rng([seed, 2, image_id, 1])
  if rng.random() < 0.02:
    return []
  targets: dict[str, behaviour.Target] = {}
  for obj in drawn.objects:  # of several objects of a class, the worker aims at the first
    targets.setdefault(CLASSES[obj.shape], behaviour.target_of(obj, drawn))
  absent = [name for name in CLASS_NAMES if name not in targets]
  session = icons.simulate_session(rng, targets, _PAGE_OF, absent, drawn.width, drawn.height)
  loaded = int(rng.random() >= 0.02)  # 0: the image had not loaded in the worker's browser
  return [
    CocoRecord(
      number=0,
      image_id=image_id,
      shown_width=session.width * loaded,
      shown_height=session.height * loaded,
      original_width=drawn.width * loaded,
      original_height=drawn.height * loaded,
      time_spent_ms=session.time,
      worker_id=f'SYNTH{int(rng.integers(60)):05X}',
      hit_id='synthetic' + rng.bytes(12).hex()[:23],
      page_id=int(rng.integers(20)),
      actions=coco_ab_writer.to_actions(session.actions),
      categories=coco_ab_writer.to_categories(session.visits),
      trace_xy=np.array([(x, y) for _, x, y in session.trace]).reshape(-1, 2),
      trace_time_ms=np.array([time for time, _, _ in session.trace], np.int64),
    )
  ]
