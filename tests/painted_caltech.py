"""Tiny versions of Caltech-101's archives: textures with a painted object. Not a test itself."""

import io
import tarfile

import numpy as np
from PIL import Image, ImageDraw
from scipy.io import savemat

from luab_jax.byproducts.archives import writer
from luab_jax.tools.composites import caltech

OBJECT, DOT = (250, 230, 30), (250, 230, 250)  # brighter than all backgrounds


def paint(rng, size=(150, 120)):
  """Returns (u8[H, W, 3], outline f64[V, 2] as (x, y) in pixels): an ellipse with a dot inside."""
  width, height = size
  cells = rng.integers(20, 120, (12, 15, 3)).astype(np.uint8)
  image = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
  radius = np.array([rng.uniform(0.15, 0.3) * width, rng.uniform(0.15, 0.3) * height])
  middle = np.array([rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.6) * height])
  angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
  outline = middle + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  for color, shape in ((OBJECT, outline), (DOT, middle + (outline - middle) / radius * 6)):
    mask = Image.new('L', (8 * width, 8 * height))
    ImageDraw.Draw(mask).polygon([tuple(v) for v in (8 * shape - 0.5).tolist()], fill=255)
    image.paste(color, mask=mask.reduce(8))
  return np.asarray(image), outline


def encode(pixels, **options):
  """Returns a JPEG file."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=95, subsampling=0, **options)
  return file.getvalue()


def to_mat(outline):
  """Returns the MATLAB file of an outline, as in Caltech-101's annotations."""
  corner = np.floor(outline.min(axis=0))
  end = np.ceil(outline.max(axis=0))
  file = io.BytesIO()
  box = np.array([[corner[1], end[1], corner[0], end[0]]])
  savemat(file, {'box_coord': box, 'obj_contour': (outline + 0.5 - corner).T})
  return file.getvalue()


def files(photos=5, scenery=3):
  """Returns ({name: JPEG}, {name: MATLAB file}), the members of the two archives."""
  rng = np.random.default_rng(7)
  images, outlines = {}, {}
  for label in caltech.CLASSES:
    folder = {'airplanes': 'Airplanes_Side_2'}.get(label, label)
    for number in range(1, photos + 1):
      pixels, outline = paint(rng, [(150, 120), (121, 150), (163, 111)][number % 3])
      images[f'101_ObjectCategories/{label}/image_{number:04}.jpg'] = encode(pixels)
      outlines[f'Annotations/{folder}/annotation_{number:04}.mat'] = to_mat(outline)
  for label in [label for labels in caltech.SCENES.values() for label in labels]:
    for number in range(1, scenery + 1):
      cells = rng.integers(20, 120, (4, 5, 3)).astype(np.uint8)
      scene = Image.fromarray(cells).resize((150, 120), Image.Resampling.BICUBIC)
      images[f'101_ObjectCategories/{label}/image_{number:04}.jpg'] = encode(np.asarray(scene))
  return images, outlines


def write(folder, images, outlines):
  """Writes both archives."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, mode, content in ((caltech.IMAGES, 'w:gz', images), (caltech.OUTLINES, 'w', outlines)):
    with tarfile.open(folder / name, mode) as tar:
      for member, data in content.items():
        writer.add_to_tar(tar, member, data)
