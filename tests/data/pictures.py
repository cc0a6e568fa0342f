"""A small image in which left and right, and up and down, can be told apart."""

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 23, 17
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([X * 11, Y * 15, X * 5 + Y * 7], -1).astype(np.uint8)
IMAGE = Image.fromarray(RGB)


def encode(picture, form, **options):
  """The bytes of an image file in one of Pillow's formats."""
  file = io.BytesIO()
  picture.copy().save(file, form, **options)
  return file.getvalue()
