"""Accepted files decode to what an image viewer shows; the others are refused in one line."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from luab_jax.data import geometry, image_files, image_ops
from tests.data.pictures import HEIGHT, IMAGE, RGB, WIDTH, X, Y, encode
from tests.stress.fuzz import inputs, runner
from tfds_builders.imagenet_ab import small_release

RGBA = Image.fromarray(np.dstack([RGB, (X > 5) * 255]).astype(np.uint8))
PALETTE = IMAGE.quantize(16)
INDICES = np.asarray(PALETTE)
COLOURS = np.zeros((16, 4), np.uint8)
COLOURS[: len(PALETTE.getpalette()) // 3, 2::-1] = np.reshape(PALETTE.getpalette(), (-1, 3))
DEEP = (X * 2800 + Y * 37).astype(np.uint16)


def _frames(form, **options):
  """An animation whose second frame is blue."""
  blue = Image.new('RGB', (WIDTH, HEIGHT), 'blue')
  return encode(IMAGE, form, save_all=True, append_images=[blue], **options)


def _bmp(bits, rows, palette=b'', compression=0):
  head = struct.pack('<IHHI', 54 + len(palette) + len(rows), 0, 0, 54 + len(palette))
  sizes = struct.pack('<IiiHHI', 40, WIDTH, HEIGHT, 1, bits, compression)
  return b'BM' + head + sizes + struct.pack('<IiiII', len(rows), 0, 0, 16, 0) + palette + rows


def _padded(row):
  return row + b'\0' * (-len(row) % 4)


def _nibbles(row):
  row = [*row, 0]
  return _padded(bytes(16 * a + b for a, b in zip(row[::2], row[1::2], strict=True)))


def _run_length_coded():
  rows = (b''.join(bytes([1, index]) for index in row) + b'\0\0' for row in INDICES[::-1])
  return _bmp(8, b''.join(rows) + b'\0\1', COLOURS.tobytes(), compression=1)


def _without_adobe_marker(data):
  start = data.index(b'\xff\xee')
  return data[:start] + data[start + 2 + struct.unpack('>H', data[start + 2 : start + 4])[0] :]


def _ycck(data):
  """Sets the transform of the Adobe marker to YCCK instead of CMYK."""
  at = data.index(b'Adobe') + 11
  return data[:at] + b'\2' + data[at + 1 :]


def _png16(kind, channels):
  def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

  pixels = np.repeat(DEEP[..., None], channels, -1).astype('>u2')
  rows = zlib.compress(b''.join(b'\0' + row.tobytes() for row in pixels))
  head = struct.pack('>IIBBBBB', WIDTH, HEIGHT, 16, kind, 0, 0, 0)
  chunks = chunk(b'IHDR', head) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')
  return b'\x89PNG\r\n\x1a\n' + chunks


def _tiff16():
  """A 16-bit RGB TIFF, which Pillow opens as 8 bits."""
  pixels, depths = np.repeat(DEEP[..., None], 3, -1).astype('<u2').tobytes(), 8 + 2 + 9 * 12 + 4
  tags = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, depths), (259, 3, 1, 1)]
  tags += [(262, 3, 1, 2), (273, 4, 1, depths + 6), (277, 3, 1, 3), (278, 3, 1, HEIGHT)]
  tags.append((279, 4, 1, len(pixels)))
  directory = struct.pack('<H', 9) + b''.join(struct.pack('<HHII', *tag) for tag in tags)
  return b'II*\0\10\0\0\0' + directory + b'\0' * 4 + struct.pack('<HHH', 16, 16, 16) + pixels


CMYK = encode(IMAGE.convert('CMYK'), 'JPEG', quality=95)
# Stored as they are: the pipeline decodes these bytes.
STORED = {
  'JPEG': encode(IMAGE, 'JPEG'),
  'JPEG, progressive': encode(IMAGE, 'JPEG', progressive=True),
  'JPEG, grey': encode(IMAGE.convert('L'), 'JPEG'),
  'JPEG, RGB': encode(IMAGE, 'JPEG', keep_rgb=True),
  'JPEG, colour profile': encode(IMAGE, 'JPEG', icc_profile=b'a profile'),
  'JPEG, several (MPO)': _frames('MPO'),
  'PNG': encode(IMAGE, 'PNG'),
  'PNG, alpha': encode(RGBA, 'PNG'),
  'PNG, grey and alpha': encode(RGBA.convert('LA'), 'PNG'),
  'PNG, 1 bit': encode(IMAGE.convert('1'), 'PNG'),
  'PNG, palette': encode(PALETTE, 'PNG'),
  'PNG, palette of 4 bits': encode(PALETTE, 'PNG', bits=4),
  'PNG, palette with a transparent colour': encode(PALETTE, 'PNG', transparency=3),
  'PNG, palette with alpha': encode(PALETTE, 'PNG', transparency=bytes(range(0, 160, 10))),
  'PNG, transparent colour': encode(IMAGE, 'PNG', transparency=(11, 15, 12)),
  'PNG, animated': _frames('PNG'),
}
REENCODED = {
  'JPEG, CMYK': CMYK,
  'JPEG, CMYK without a marker': _without_adobe_marker(CMYK),
  'JPEG, YCCK': _ycck(CMYK),
  'GIF': encode(IMAGE, 'GIF'),
  'GIF, animated': _frames('GIF'),
  'GIF, transparent': encode(RGBA, 'GIF'),
  'BMP': encode(IMAGE, 'BMP'),
  'BMP, alpha': encode(RGBA, 'BMP'),
  'BMP, grey': encode(IMAGE.convert('L'), 'BMP'),
  'BMP, palette': encode(PALETTE, 'BMP'),
  'BMP, palette of 1 bit': encode(IMAGE.convert('1'), 'BMP'),
  'BMP, palette of 4 bits': _bmp(4, b''.join(map(_nibbles, INDICES[::-1])), COLOURS.tobytes()),
  'BMP, run lengths': _run_length_coded(),
  'BMP, 16 bits a pixel': _bmp(
    16, b''.join(_padded(r.tobytes()) for r in DEEP[::-1].astype('<u2') & 0x7FFF)
  ),
  'TIFF': encode(IMAGE, 'TIFF'),
  'TIFF, several pages': _frames('TIFF'),
  'TIFF, CMYK': encode(IMAGE.convert('CMYK'), 'TIFF'),
  'TIFF, palette': encode(PALETTE, 'TIFF'),
  'WebP': encode(IMAGE, 'WEBP'),
  'WebP, animated': _frames('WEBP', lossless=True),
  'AVIF': encode(IMAGE, 'AVIF'),
  'AVIF, animated': _frames('AVIF'),
  'WebP, alpha': encode(RGBA, 'WEBP', lossless=True, exact=True),
}
REFUSED = {
  'PNG, 16-bit grey': encode(Image.fromarray(DEEP), 'PNG'),
  'PNG, 16-bit grey and alpha': _png16(4, 2),
  'PNG, 16-bit RGB': _png16(2, 3),
  'PNG, 16-bit RGBA': _png16(6, 4),
  'TIFF, 16-bit grey': encode(Image.fromarray(DEEP), 'TIFF'),
  'TIFF, 16-bit RGB': _tiff16(),
  'TIFF, float': encode(Image.fromarray(DEEP.astype(np.float32)), 'TIFF'),
}


def _viewed(data):
  with Image.open(io.BytesIO(data)) as picture:
    return np.asarray(ImageOps.exif_transpose(picture).convert('RGB')).astype(int)


@pytest.mark.filterwarnings('ignore')  # Pillow warns about transparency
@pytest.mark.parametrize('kind', STORED | REENCODED)
@pytest.mark.parametrize('upright', [False, True])
def test_the_pipeline_reads_what_a_viewer_shows(kind, upright):
  data = (STORED | REENCODED)[kind]
  encoded = image_files.encode(data, upright=upright)
  shown = _viewed(data)
  assert encoded.size == shown.shape[:2] and bool(encoded.suffix) == (kind in REENCODED)
  assert (encoded.data == data) == (kind in STORED)
  lossless = encoded.suffix != '.jpg'
  tolerance = 0 if lossless else 12
  assert np.abs(image_ops.decode(encoded.data).numpy() - shown).max() <= tolerance
  np.testing.assert_array_equal(image_files.read_upright(data), shown)
  # As tfds.load decodes it: a GIF would have four dimensions, and JPEG decoding is less exact.
  loaded = tf.ensure_shape(tf.io.decode_image(encoded.data, channels=3), [None, None, 3])
  assert np.abs(loaded.numpy() - shown).max() <= 12
  transparent = any(word in kind for word in ('alpha', 'transparent'))
  assert encoded.has_alpha == (transparent and kind != 'BMP, alpha') or kind.startswith('GIF')


@pytest.mark.parametrize('kind', REFUSED)
def test_more_than_8_bits_are_refused(kind):
  for read in (image_files.encode, image_files.read_upright):
    with pytest.raises(image_files.BadImage, match='convert it to 8 bits'):
      read(REFUSED[kind])


def test_the_colours_of_a_palette():
  """A BMP of two colours, which TensorFlow reads as 0 and 1."""
  picture = Image.new('P', (8, 8))
  picture.putpalette([200, 0, 0, 255, 255, 255])
  picture.putpixel((3, 2), 1)
  data = encode(picture, 'BMP')
  pixels = image_ops.decode(image_files.encode(data).data).numpy()
  assert pixels[0, 0].tolist() == [200, 0, 0] and pixels[2, 3].tolist() == [255, 255, 255]


def _whole_decode(data):
  """(height, width) if the pipeline can decode the whole file, else None."""
  try:
    with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as picture:
      image_files.check_size(picture.height, picture.width)
    shape = tf.io.decode_image(data, channels=3, expand_animations=False).shape
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, tf.errors.OpError):
    return None
  return tuple(shape[:2])


@pytest.mark.filterwarnings('ignore')  # Pillow warns about some kinds of damage
def test_a_jpeg_decoded_to_an_eighth_is_refused_as_a_whole_one_is(tmp_path):
  corpus = inputs.Corpus(tmp_path)
  accepted = refused = 0
  for number in range(500):
    data = runner.make_input('JPEG, PNG, BMP, GIF', number, 3, corpus)['image']
    if not data.startswith(b'\xff\xd8\xff'):
      continue
    try:
      size = image_files.image_size(data)
    except image_files.BadImage:
      size = None
    assert size == _whole_decode(data), number
    accepted, refused = accepted + (size is not None), refused + (size is None)
  assert accepted > 30 and refused > 30


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'BMP', 'GIF', 'TIFF', 'WEBP'])
def test_an_image_of_an_extreme_size_is_refused_by_its_header(form, monkeypatch):
  readers = (image_files.encode, image_files.read_upright)
  data = small_release.image('red', size=(500, 200), form=form)
  assert image_files.encode(data).size == (200, 500)
  monkeypatch.setattr(image_files, 'MAX_PIXELS', 99_999)
  for read in readers:
    with pytest.raises(image_files.BadImage, match='it has 500 × 200 pixels, more than 99999'):
      read(data)
  for size in ((51, 1), (2, 101)):
    data = small_release.image('red', size=size, form=form)
    for read in readers:
      with pytest.raises(image_files.BadImage, match='more than 50 times as long'):
        read(data)
  assert image_files.encode(small_release.image('red', size=(50, 1), form=form)).size == (1, 50)


def test_an_extreme_image_of_a_data_set_of_others_is_squeezed():
  """Otherwise evaluation would resize 8000 x 1 to 2,048,000 x 256."""
  resized, window = geometry.centre_window(1, 8000, resize=256, size=224)
  assert resized.numpy().tolist() == [256, 50 * 256] and [int(v) for v in window][:2] == [16, 6288]


def test_messages_are_one_line(tmp_path):
  with warnings.catch_warnings(record=True):
    for data in (b'', b'no image', STORED['PNG'][:60], STORED['JPEG'][:-80], REENCODED['GIF'][:30]):
      with pytest.raises(image_files.BadImage) as error:
        image_files.encode(data)
      assert str(error.value) and '\n' not in str(error.value) and '0x' not in str(error.value)
