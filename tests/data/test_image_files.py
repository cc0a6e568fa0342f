"""What a build accepts as an image is what the pipeline can decode."""

import io

import pytest
import tensorflow as tf
from PIL import Image

from luab_jax.data import image_files
from tests.stress.fuzz import inputs, runner
from tfds_builders.imagenet_ab import small_release


def _whole_decode(data):
  """Whether the pipeline can decode a file, and its size."""
  try:
    with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG', 'BMP', 'GIF')) as picture:
      if picture.width * picture.height > image_files.MAX_PIXELS:
        return None
    shape = tf.io.decode_image(data, channels=3, expand_animations=False).shape
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, tf.errors.OpError):
    return None
  return tuple(shape[:2])


@pytest.mark.filterwarnings('ignore')  # Pillow warns of some damage
def test_a_jpeg_decoded_to_an_eighth_is_refused_as_a_whole_one_is(tmp_path):
  corpus = inputs.Corpus(tmp_path)
  accepted = refused = 0
  for number in range(500):
    data = runner.make_input('JPEG, PNG, BMP, GIF', number, 3, corpus)['image']
    try:
      size = image_files.image_size(data)
    except image_files.BadImage:
      size = None
    assert size == _whole_decode(data), number
    if data.startswith(b'\xff\xd8\xff'):
      accepted, refused = accepted + (size is not None), refused + (size is None)
  assert accepted > 30 and refused > 30


@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(form, monkeypatch):
  data = small_release.image('red', size=(500, 200), form=form)
  assert image_files.image_size(data) == (200, 500)
  monkeypatch.setattr(image_files, 'MAX_PIXELS', 99_999)
  with pytest.raises(image_files.BadImage, match='it has 500 × 200 pixels, more than 99999'):
    image_files.image_size(data)
