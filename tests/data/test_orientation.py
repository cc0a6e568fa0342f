"""Images are turned upright even if other EXIF tags are broken."""

import struct

import numpy as np
import pytest
from PIL import Image

from luab_jax.data import image_files, image_ops
from tests.data.pictures import HEIGHT, IMAGE, RGB, WIDTH, encode

ORIENTED = {
  1: RGB,
  2: RGB[:, ::-1],
  3: RGB[::-1, ::-1],
  4: RGB[::-1],
  5: RGB.transpose(1, 0, 2),
  6: np.rot90(RGB),
  7: RGB[::-1, ::-1].transpose(1, 0, 2),
  8: np.rot90(RGB, -1),
}  # {EXIF orientation: stored pixels whose upright image is RGB}


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
@pytest.mark.parametrize('orientation', ORIENTED)
def test_orientation_is_applied_whatever_other_tags_are_broken(form, orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  exif[0x011A] = 72.0  # resolution, a rational number
  block = exif.tobytes()
  broken = block.replace(struct.pack('>HH', 0x011A, 5), struct.pack('>HH', 0x011A, 2))  # a text
  assert broken != block
  stored = Image.fromarray(np.ascontiguousarray(ORIENTED[orientation]))
  options = {
    'WEBP': {'lossless': True},
    'JPEG': {'quality': 95, 'subsampling': 0},
    'AVIF': {'quality': 100, 'subsampling': '4:4:4'},
  }.get(form, {})
  data = encode(stored, form, exif=exif if form in ('TIFF', 'AVIF') else broken, **options)
  encoded = image_files.encode(data, upright=True)
  pixels = image_ops.decode(encoded.data).numpy()
  assert encoded.orientation == orientation and encoded.size == pixels.shape[:2] == RGB.shape[:2]
  tolerance = 0 if form in ('PNG', 'TIFF') else 12
  for upright in (pixels, image_files.read_upright(data)):
    assert np.abs(upright.astype(int) - RGB).max() <= tolerance


def test_orientation_is_found_behind_a_tag_that_cannot_be_read():
  exif = Image.Exif()
  exif[0x010F], exif[0x0112] = 'a maker', 6
  block = exif.tobytes()
  at = block.index(b'\1\x0f\0\2') + 8  # the offset of its text, here set beyond the end
  data = encode(IMAGE, 'JPEG', exif=block[:at] + b'\0\xff\xff\0' + block[at + 4 :])
  assert image_files.encode(data, upright=True).size == (WIDTH, HEIGHT)


@pytest.mark.filterwarnings('ignore')  # Pillow warns about EXIF that it skips
def test_damaged_exif_never_costs_an_image():
  exif = Image.Exif()
  exif[0x0112], exif[0x010F], exif[0x011A] = 6, 'maker', 72.0
  rng = np.random.default_rng(0)
  turned = 0
  for form in ('JPEG', 'PNG', 'WEBP'):
    block = exif.tobytes()
    for _ in range(150):
      damaged = bytearray(block)
      for at in rng.integers(6, len(block), rng.integers(1, 8)):
        damaged[at] = rng.integers(256)
      data = encode(IMAGE, form, exif=bytes(damaged))
      encoded = image_files.encode(data, upright=True)
      assert image_files.read_upright(data).shape[:2] == encoded.size
      turned += encoded.orientation == 6
  assert 50 < turned < 440
