"""Writes the synthetic COCO-AB: image zips, instances and the workers' records.

| file | content |
|---|---|
| train2014.zip, val2014.zip | train2014/COCO_train2014_%012d.jpg (val alike), 1 to 4 objects each |
| annotations_trainval2014.zip | annotations/instances_{train,val}2014.json, all 80 categories |
| coco_ab_v1_0.json | one record of a worker for most training images |

The texture goes with the class of an image's first object, in both splits.
"""

import json

import numpy as np
from tqdm import tqdm

from luab_jax.byproducts.archives import writer
from luab_jax.tools.synthetic import behaviour, icons, scene
from luab_jax.tools.synthetic.imagenet_release import encode_jpeg

CLASSES = ('sports ball', 'donut', 'book', 'pizza', 'airplane', 'kite')  # names of scene.SHAPES
SPLITS = ('train', 'val')

_RADIUS = (0.105, 0.155)  # of the short side: 5 to 7.5 of 48 pixels, so that four find room
_FIRST_ID = {'train': 900_000_001, 'val': 950_000_001}  # no real image has such an id
_DATE = '2022-01-01 00:00:00'

# (super-category, ((id, name), ...)) of COCO 2014.
_SUPERCATEGORIES = (
  ('person', ((1, 'person'),)),
  (
    'vehicle',
    (
      (2, 'bicycle'),
      (3, 'car'),
      (4, 'motorcycle'),
      (5, 'airplane'),
      (6, 'bus'),
      (7, 'train'),
      (8, 'truck'),
      (9, 'boat'),
    ),
  ),
  (
    'outdoor',
    (
      (10, 'traffic light'),
      (11, 'fire hydrant'),
      (13, 'stop sign'),
      (14, 'parking meter'),
      (15, 'bench'),
    ),
  ),
  (
    'animal',
    (
      (16, 'bird'),
      (17, 'cat'),
      (18, 'dog'),
      (19, 'horse'),
      (20, 'sheep'),
      (21, 'cow'),
      (22, 'elephant'),
      (23, 'bear'),
      (24, 'zebra'),
      (25, 'giraffe'),
    ),
  ),
  (
    'accessory',
    ((27, 'backpack'), (28, 'umbrella'), (31, 'handbag'), (32, 'tie'), (33, 'suitcase')),
  ),
  (
    'sports',
    (
      (34, 'frisbee'),
      (35, 'skis'),
      (36, 'snowboard'),
      (37, 'sports ball'),
      (38, 'kite'),
      (39, 'baseball bat'),
      (40, 'baseball glove'),
      (41, 'skateboard'),
      (42, 'surfboard'),
      (43, 'tennis racket'),
    ),
  ),
  (
    'kitchen',
    (
      (44, 'bottle'),
      (46, 'wine glass'),
      (47, 'cup'),
      (48, 'fork'),
      (49, 'knife'),
      (50, 'spoon'),
      (51, 'bowl'),
    ),
  ),
  (
    'food',
    (
      (52, 'banana'),
      (53, 'apple'),
      (54, 'sandwich'),
      (55, 'orange'),
      (56, 'broccoli'),
      (57, 'carrot'),
      (58, 'hot dog'),
      (59, 'pizza'),
      (60, 'donut'),
      (61, 'cake'),
    ),
  ),
  (
    'furniture',
    (
      (62, 'chair'),
      (63, 'couch'),
      (64, 'potted plant'),
      (65, 'bed'),
      (67, 'dining table'),
      (70, 'toilet'),
    ),
  ),
  (
    'electronic',
    (
      (72, 'tv'),
      (73, 'laptop'),
      (74, 'mouse'),
      (75, 'remote'),
      (76, 'keyboard'),
      (77, 'cell phone'),
    ),
  ),
  (
    'appliance',
    ((78, 'microwave'), (79, 'oven'), (80, 'toaster'), (81, 'sink'), (82, 'refrigerator')),
  ),
  (
    'indoor',
    (
      (84, 'book'),
      (85, 'clock'),
      (86, 'vase'),
      (87, 'scissors'),
      (88, 'teddy bear'),
      (89, 'hair drier'),
      (90, 'toothbrush'),
    ),
  ),
)
CATEGORIES = tuple(
  {'supercategory': group, 'id': number, 'name': name}
  for group, members in _SUPERCATEGORIES
  for number, name in members
)
_CATEGORY_ID = {category['name']: category['id'] for category in CATEGORIES}
_PAGE_OF = {
  category['name']: page
  for category in CATEGORIES
  for page, (_, groups) in enumerate(icons.PAGES)
  if category['supercategory'] in groups
}


def draw(seed, split, index, correlation, size):
  """The image `index` of a split and nothing but that; the first object's class goes round.

  Args:
    seed: int >= 0.
    split: one of SPLITS.
    index: from 0.
    correlation: probability that the texture is the one of the first object's class.
    size: short side in pixels.

  Returns:
    scene.Scene with 1 to 4 objects.
  """
  rng = np.random.default_rng([seed, 2, SPLITS.index(split), index, 0])
  first = index % len(CLASSES)
  others = rng.integers(len(CLASSES), size=rng.integers(4)).tolist()
  texture = scene.choose_texture(rng, first, correlation)
  return scene.draw_scene(rng, [first, *others], texture, size, _RADIUS)


def write(out, seed, train, validation, correlation, size):
  """Writes the four files into the folder `out`; returns {what: how many}. Arguments: see `draw`
  and `imagenet_release.write`."""
  counts = {'training images': train, 'validation images': validation}
  records = []
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
            records += _records(drawn, image['id'], seed)
          bar.update()
      writer.add_to_zip(
        annotations,
        f'annotations/instances_{split}2014.json',
        json.dumps(_instances_file(images, instances)).encode(),
        compress=True,
      )
      counts[f'instances in {split}'] = len(instances)
  with writer.replacing(out / 'coco_ab_v1_0.json') as file:
    file.write(json.dumps(records).encode())
  counts['records'] = len(records)
  counts['actions'] = sum(len(record['actionHistories']) for record in records)
  return counts


def _image_entry(drawn, split, index):
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


def _instances_file(images, instances):
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


def _instances(drawn, image_id, seed):
  """The annotations of one image; several objects of a class are now and then one crowd."""
  rng = np.random.default_rng([seed, 2, image_id, 2])
  entries = []
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


def _crowd(members, drawn):
  """One annotation over several objects: uncompressed run lengths, column by column."""
  mask = sum(scene.coverage(obj, drawn.width, drawn.height) for obj in members) > 0.5
  flat = np.concatenate([[False], mask.ravel(order='F'), [not mask[-1, -1]]])
  ends = np.flatnonzero(flat[1:] != flat[:-1])  # the first run counts zeros and may be empty
  runs = {'counts': np.diff(ends, prepend=0).tolist(), 'size': [drawn.height, drawn.width]}
  boxes = np.array([obj.box for obj in members])
  box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
  return box, float(mask.sum()), runs, 1, members[0].shape


def _xywh(box):
  xmin, ymin, xmax, ymax = (round(v, 2) for v in box)
  return [xmin, ymin, round(xmax - xmin, 2), round(ymax - ymin, 2)]


def _records(drawn, image_id, seed):
  """The record of one training image in a list, which is empty for one image in fifty."""
  rng = np.random.default_rng([seed, 2, image_id, 1])
  if rng.random() < 0.02:
    return []
  targets = {}
  for obj in drawn.objects:  # the worker goes for the object drawn first
    targets.setdefault(CLASSES[obj.shape], behaviour.target_of(obj, drawn))
  absent = [c['name'] for c in CATEGORIES if c['name'] not in targets]
  session = icons.simulate_session(rng, targets, _PAGE_OF, absent, drawn.width, drawn.height)
  loaded = int(rng.random() >= 0.02)  # 0: the image had not loaded in the worker's browser
  return [
    {
      'imageHeight': session.height * loaded,
      'worker_id': f'SYNTH{int(rng.integers(60)):05X}',
      'imageWidth': session.width * loaded,
      'hit_id': 'synthetic' + rng.bytes(12).hex()[:23],
      'image_id': image_id,
      'originalImageHeight': drawn.height * loaded,
      'actionHistories': session.actions,
      'categoryHistories': session.categories,
      'page_id': int(rng.integers(20)),
      'mouseTracking': session.track,
      'originalImageWidth': drawn.width * loaded,
      'timeSpent': session.time,
    }
  ]
