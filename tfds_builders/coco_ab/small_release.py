"""Writes a COCO-AB release of four plain images, with the files of the real one, for tests."""

import io
import json
import pathlib
import zipfile

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab import coco_ab_dataset_builder

# category_id -> name. COCO's ids have gaps, and the file need not list them in order.
CATEGORIES = {90: 'toothbrush', 1: 'person', 47: 'cup', 18: 'dog'}
SIZE = {'train2014': {9: (64, 48), 25: (40, 40), 30: (32, 50)}, 'val2014': {42: (33, 47)}}


def jpeg(image_id, size):
  colour = np.random.default_rng(image_id).integers(0, 255, 3)
  file = io.BytesIO()
  Image.new('RGB', size, tuple(map(int, colour))).save(file, 'JPEG')
  return file.getvalue()


def file_name(folder, image_id):
  return f'COCO_{folder}_{image_id:012d}.jpg'


def annotation(id_, image_id, category_id, box, crowd=0):
  return {
    'id': id_,
    'image_id': image_id,
    'category_id': category_id,
    'bbox': box,
    'area': 12.25,
    'iscrowd': crowd,
    'segmentation': [[1, 2.5, 3]],
  }


ANNOTATIONS = {
  'train2014': [
    annotation(7, 9, 90, [16, 12, 32, 24]),
    annotation(3, 9, 1, [0, 0, 64, 48], crowd=1),
    annotation(5, 9, 90, [60, 40, 4.004, 8]),  # a hair wider than the image
    annotation(8, 25, 47, [1.5, 2, 3, 4]),
  ],
  'val2014': [annotation(9, 42, 18, [0, 0, 33, 47])],
}


def action(kind, icon, to, time, origin=None):
  return {
    'actionType': kind,
    'iconType': icon,
    'timeAt': time,
    'pointFrom': origin and dict(zip('xy', origin, strict=True)),
    'pointTo': to and dict(zip('xy', to, strict=True)),
  }


RECORDS = [
  {
    'image_id': 25,
    'worker_id': 'W1',
    'hit_id': 'H1',
    'page_id': 19,
    'timeSpent': 8_260_000_000,
    'imageWidth': 451,
    'imageHeight': 450,
    'originalImageWidth': 0,
    'originalImageHeight': 0,
    'actionHistories': [],
    'categoryHistories': [],
    'mouseTracking': [],
  },
  {
    'image_id': 9,
    'worker_id': 'W2',
    'hit_id': 'H2',
    'page_id': 0,
    'timeSpent': 5000,
    'imageWidth': 450,
    'imageHeight': 338,
    'originalImageWidth': 64,
    'originalImageHeight': 48,
    'actionHistories': [
      action('add', 'toothbrush', (0.5, 0.5), 3_000_000_001),
      action('add', 'unicorn', (0.1, 0.1), 3_000_000_002),
      action('add', 'person', (0.25, 1.02), 3_000_000_003),
      action('move', 'toothbrush', (0.75, -0.125), 3_000_000_004, (0.5, 0.5)),
      action('add', 'cup', (0.3, 0.3), 3_000_000_005),
      action('remove', 'cup', None, 3_000_000_006, (0.3, 0.3)),
    ],
    'categoryHistories': [
      {'categoryIndex': 6, 'categoryName': 'Food', 'timeAt': 10, 'usingKeyboard': True}
    ],
    'mouseTracking': [
      {'x': 0.5, 'y': 0.25, 'timeAt': 3_000_000_000},
      {'x': 1.5, 'y': -1, 'timeAt': 3_000_000_001},
    ],
  },
  {'image_id': 777, 'worker_id': 'of no image'},
]


def write_release(folder, *, records=RECORDS, images=None, annotations=ANNOTATIONS):
  """Writes the four files; `images` replaces or adds {zip: {member: bytes}}."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / coco_ab.FILE_NAME).write_text(
    records if isinstance(records, str) else json.dumps(records)
  )
  with zipfile.ZipFile(folder / 'annotations_trainval2014.zip', 'w') as archive:
    for name, sizes in SIZE.items():
      archive.writestr(
        f'annotations/instances_{name}.json',
        json.dumps(
          {
            'info': {'year': 2014},
            'licenses': [{'id': 1}],
            'images': [
              {'id': i, 'file_name': file_name(name, i), 'width': w, 'height': h}
              for i, (w, h) in sizes.items()
            ],
            'annotations': annotations[name],
            'categories': [{'id': i, 'name': name} for i, name in CATEGORIES.items()],
          }
        ),
      )
  for name, sizes in SIZE.items():
    members = {f'{name}/{file_name(name, i)}': jpeg(i, size) for i, size in sizes.items()}
    members.update((images or {}).get(name, {}))
    with zipfile.ZipFile(folder / f'{name}.zip', 'w') as archive:
      archive.writestr(f'{name}/', '')
      for member, data in members.items():
        archive.writestr(member, data)
  return folder


def build(manual_dir, data_dir, config='local'):
  """Builds `config` and returns {split: {image_id: example}} with the image files undecoded."""
  builder = coco_ab_dataset_builder.Builder(data_dir=str(data_dir), config=config)
  builder.download_and_prepare(
    download_dir=str(data_dir / 'downloads'),
    download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)),
  )
  builder = tfds.builder_from_directory(data_dir / 'coco_ab' / config / '1.0.0')
  splits = builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()})
  return {
    split: {int(row['image_id']): row for row in tfds.as_numpy(rows)}
    for split, rows in splits.items()
  }
