"""Writes painted images and their narratives as files of COCO 2017 and Localized Narratives.

For tests. Each image has a ball (red) and a kite (green); its narrative circles both.
"""

import io
import json
import pathlib
import zipfile

import numpy as np
from PIL import Image

from tfds_builders.coco_ab.small_release import annotation

CLASSES = {37: 'sports ball', 38: 'kite', 1: 'person'}  # by category_id
NAME = 'coco_train_localized_narratives-00000-of-00004.jsonl'
SAID = (
  ('In this image', 0.0, 0.4),
  ('a Ball', 0.5, 1.4),
  ('lies on the grass', 1.5, 2.2),
  ('next to two', 2.3, 2.5),
  ('kites,', 2.6, 3.5),
)
RADIUS = 0.05  # of the painted discs and the circles around them, relative to the shorter side


def scene(image_id):
  """Returns (uint8[height, width, 3], float[2, 2] centres (x, y) of ball and kite as fractions)."""
  rng = np.random.default_rng(image_id)
  height, width = rng.integers(100, 200, 2)
  places = rng.uniform(0.08, 0.92, (2, 2)).round(4)
  image = np.full((height, width, 3), 30.0)
  y, x = np.mgrid[:height, :width] + 0.5
  for channel, place in enumerate(places):
    distance = np.hypot(*(np.stack([x, y]) - (place * (width, height))[:, None, None]))
    cover = np.clip(RADIUS * min(height, width) + 0.5 - distance, 0, 1)
    image[..., channel] += cover * 225
  return np.round(image).astype(np.uint8), places


def narrative(image_id, places, *, size, radius=RADIUS):
  """Returns a record in the released format: the mouse circles each place while it is named.

  `size`: (height, width) in pixels; `radius`: of the circles, as a fraction of the shorter side.
  """

  def line(start, end, begin, until, count):
    steps = np.linspace(0, 1, count)[:, None]
    return [start + (end - start) * steps, np.linspace(begin, until, count)]

  def circle(place, begin, until):
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
    radii = radius * min(size) / np.array(size)[::-1]
    return [
      place + radii * np.hstack([np.cos(angle), np.sin(angle)]),
      np.linspace(begin, until, 24),
    ]

  ball, kite = np.asarray(places, float)
  segments = [
    [line(np.array([0.2086, -0.0533]), ball, 0.022, 0.45, 8), circle(ball, 0.55, 1.35)],
    [line(ball * 1.02, kite, 2.3, 2.55, 6), circle(kite, 2.65, 3.45), line(kite, kite, 3.6, 4, 3)],
  ]
  return {
    'dataset_id': 'mscoco_train2017',
    'image_id': str(image_id),
    'annotator_id': 93,
    'caption': ' '.join(text for text, _, _ in SAID),
    'timed_caption': [
      dict(zip(('utterance', 'start_time', 'end_time'), s, strict=True)) for s in SAID
    ],
    'traces': [
      [
        {'x': round(float(x), 4), 'y': round(float(y), 4), 't': round(float(t), 3)}
        for xy, times in parts
        for (x, y), t in zip(xy, times, strict=True)
      ]
      for parts in segments
    ],
    'voice_recording': f'coco_train/coco_train_{image_id}_93.ogg',
  }


def write_release(folder, *, train=range(1, 5), validation=(90,), change=lambda lines: lines):
  """Writes all files; `change` is applied to the list of narrative lines of all images."""
  folder, lines = pathlib.Path(folder), []
  splits = {'train2017': train, 'val2017': validation}
  with zipfile.ZipFile(folder / 'annotations_trainval2017.zip', 'w') as annotations:
    for name, image_ids in splits.items():
      content = {
        'images': [],
        'annotations': [],
        'categories': [{'id': i, 'name': n} for i, n in CLASSES.items()],
      }
      with zipfile.ZipFile(folder / f'{name}.zip', 'w') as images:
        for image_id in image_ids:
          image, places = scene(image_id)
          height, width = image.shape[:2]
          file, file_name = io.BytesIO(), f'{image_id:012d}.jpg'
          Image.fromarray(image).save(file, 'JPEG', quality=95, subsampling=0)
          images.writestr(f'{name}/{file_name}', file.getvalue())
          content['images'].append(
            {'id': image_id, 'file_name': file_name, 'height': height, 'width': width}
          )
          side = 2 * RADIUS * min(height, width)
          for number, (category, place) in enumerate(zip((37, 38), places, strict=True)):
            corner = place * (width, height) - side / 2
            box = [*corner.tolist(), side, side]
            content['annotations'].append(
              annotation(2 * image_id + number, image_id, category, box)
            )
          lines.append(json.dumps(narrative(image_id, places, size=(height, width))))
      annotations.writestr(f'annotations/instances_{name}.json', json.dumps(content, default=int))
  (folder / NAME).write_text('\n'.join(change(lines)) + '\n')
  return folder
