"""Photographs with one dot each, the tables that go with them, and readers of the results.

Not a test itself.
"""

import csv
import io
import re
import unicodedata

import numpy as np
import PIL.Image

from configs import own_data as own_config
from luab_jax.data import pipeline
from tests.painted_data import encode, paint

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))


def write_csv(path, head, rows, **options):
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file, **options)
    writer.writerows([head, *rows])


def paint_photos(folder):
  """Writes 18 images of two classes with one dot each; returns {path in `folder`: (x, y) of it}."""
  rng = np.random.default_rng(0)
  dots = {}
  names = [f'{label}/{number}.jpg' for label in ('Katze', 'dog') for number in range(7)]
  names += ['dog/5.PNG', 'dog/deep/6.jpg', f'Katze/{COMPOSED}.png', f'Katze/{DECOMPOSED}.png']
  for name in names:
    height, width = rng.integers(60, 120, 2)
    dots[name] = dot = rng.uniform(0.3, 0.7, 2)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = paint(height, width, [dot])
    if name == 'dog/0.jpg':  # as phones store it: to be rotated clockwise for display
      file = io.BytesIO()
      exif = PIL.Image.Exif()
      exif[0x0112] = 6
      PIL.Image.fromarray(np.rot90(image)).save(file, 'JPEG', quality=95, exif=exif)
      path.write_bytes(file.getvalue())
    else:
      path.write_bytes(encode(image, 'JPEG' if name.endswith('jpg') else 'PNG'))
  return dots


def size(path):
  with PIL.Image.open(path) as image:
    return image.size if image.getexif().get(0x0112) != 6 else image.size[::-1]


def read_counts(text):
  """Returns {what: count} of the lines that start with a number."""
  return {
    what: int(number.replace(',', ''))
    for number, what in re.findall(r'^ +([\d,]+)  (\S.*)$', text, re.M)
  }


def first_batch(data_dir, name, split, count):
  config = own_config.get_config().data
  config.data_dir, config.name = str(data_dir), name
  config.image_size = config.eval_resize = 64
  spec = pipeline.dataset_spec(config)
  batches, _ = pipeline.eval_batches(
    config, pipeline.dataset_spec(config), split, pipeline.Rows(count)
  )
  return spec, next(iter(batches))
