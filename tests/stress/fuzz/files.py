"""Images, masks and the class mapping: how each is made, read and checked; see records.py."""

import io
import json
import pathlib
import struct

import numpy as np
import tensorflow as tf

from luab_jax.data import geometry, image_files, image_ops
from luab_jax.errors import UserError
from tests.stress.fuzz.inputs import MASK_SIZE, change_value, mutate, pick, resize_header
from tests.stress.fuzz.outcome import Outcome, refusal
from tfds_builders.backgrounds_challenge import release


def make_image(rng, corpus):
  data = pick(rng, corpus.images)
  if rng.random() < 0.3:
    data = resize_header(rng, data)
  if rng.random() < 0.8:
    data = mutate(rng, data, corpus.images)
  return {'image': data, 'draw': rng.bytes(4)}


def check_image(files, folder):
  """Encodes an image as the builders do; an image they accept must decode in the pipeline."""
  del folder
  data = files['image']
  outcome = Outcome(records_in=1)
  try:
    data, size, *_ = image_files.encode(data)
  except image_files.BadImage as error:
    outcome.skip(error)
    return outcome
  assert min(size) > 0, f'accepted with a size of {size}'
  assert tuple(image_ops.decode(data).shape) == (*size, 3), 'another size in the pipeline'
  draw = np.frombuffer(files['draw'], np.uint8) / 256

  def choose(height, width):
    height, width = int(height), int(width)
    top, left = int(draw[0] * height), int(draw[1] * width)
    return geometry.Window(
      *map(
        tf.constant,
        (top, left, 1 + int(draw[2] * (height - top - 1)), 1 + int(draw[3] * (width - left - 1))),
      )
    )

  pixels, whole, window = image_ops.decode_window(tf.constant(data), choose)
  assert tuple(whole.numpy()) == size, 'another size in the header'
  assert tuple(pixels.shape) == (int(window.height), int(window.width), 3)
  outcome.records_out = 1
  return outcome


def make_mask(rng, corpus):
  data = pick(rng, corpus.masks)
  draw = rng.random()
  if draw < 0.5:
    data = mutate(rng, data, corpus.masks)
  elif draw < 0.7:  # damages only the values
    data = data[:128] + mutate(rng, data[128:], corpus.masks)[: len(data) - 128]
  elif draw < 0.95:
    shape = pick(rng, MASK_SHAPES)
    header = f"{{'descr': {pick(rng, MASK_TYPES)!r}, 'fortran_order': False, 'shape': {shape}, }}"
    data = b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header.encode() + data[128:]
  return {'mask.npy': data}


MASK_SHAPES = [
  *'(12, 16);(16, 12);(10**9, 10**9);(12, 1000000000);(-12, -16);();(192,);(12, 16, 1)'.split(';'),
  *['((12), 16)', 'None', '(' * 300, '"a"'],
]
MASK_TYPES = [
  *'|b1 |u1 <i8 <f8 <f2 <f16 |O <U1 |S9 <c8 <M8[s] |V8 <i999999999'.split(),
  *[[('a', '<i4'), ('b', '|O')], '|u1,' * 50],
]


def check_mask(files, folder):
  """Reads a foreground mask; an accepted one must equal what np.load reads."""
  del folder
  outcome = Outcome(records_in=1)
  try:
    mask = release.read_mask(files['mask.npy'], MASK_SIZE)
  except release.BadMask as error:
    outcome.skip(error)
    return outcome
  assert mask.shape == MASK_SIZE and mask.dtype == bool
  np.testing.assert_array_equal(mask, np.load(io.BytesIO(files['mask.npy']), allow_pickle=False))
  outcome.records_out = 1
  return outcome


def make_mapping(rng, corpus):
  if rng.random() < 0.5:
    value = change_value(rng, json.loads(corpus.mapping))
    return {release.MAPPING_NAME: json.dumps(value).encode()}
  return {release.MAPPING_NAME: mutate(rng, corpus.mapping, [corpus.mapping])}


def check_mapping(files, folder):
  """Reads the class mapping of the Backgrounds Challenge."""
  path = pathlib.Path(folder) / release.MAPPING_NAME
  path.write_bytes(files[release.MAPPING_NAME])
  try:
    right = release.read_mapping(path)
  except UserError as error:
    return refusal(error)
  assert len(right) == 9 and all(right) and all(0 <= i < 1000 for row in right for i in row)
  return Outcome(records_in=1, records_out=1)
