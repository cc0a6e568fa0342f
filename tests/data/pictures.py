"""A small picture that tells left from right and up from down."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 23, 17
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([X * 11, Y * 15, X * 5 + Y * 7], -1).astype(np.uint8)
IMAGE = Image.fromarray(RGB)


def encode(picture, form, **options):
  """The bytes of a picture in a format of Pillow's."""
  file = io.BytesIO()
  picture.copy().save(file, form, **options)
  return file.getvalue()
