"""Images are decoded on all cores, and nothing of a build depends on how many there are."""

import io
import re
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import fuzz, fuzz_inputs
from luab_jax import image_files
from tfds_builders import build, image_checks
from tfds_builders.imagenet_ab import small_release


def _photo(rng, size):
  """A JPEG of noise; `size` is (width, height)."""
  file = io.BytesIO()
  Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(file, 'JPEG')
  return file.getvalue()


def _build(raw, folder, monkeypatch, workers):
  """Builds with so many threads; returns {file: bytes} and the number of threads seen."""
  seen, size = set(), image_checks.image_size

  def watched(data):
    seen.add(threading.get_ident())
    return size(data)

  with monkeypatch.context() as patch:
    patch.setattr(image_checks, '_cores', lambda: workers)
    patch.setattr(image_checks, 'image_size', watched)
    path = build.build('imagenet_ab/local', manual_dir=raw, data_dir=folder)
  return {file.name: file.read_bytes() for file in path.iterdir()}, len(seen)


def test_a_build_on_two_cores_has_the_same_bytes(tmp_path, monkeypatch, capsys):
  """Damaged images and twins included: which of two counts, and what is counted."""
  monkeypatch.setenv('LUAB_MAX_BAD_SHARE', '1')
  rng = np.random.default_rng(0)
  classes = {name: {f'{i}.JPEG': _photo(rng, rng.integers(20, 90, 2)) for i in range(30)}
             for name in ('cat', 'dog')}
  classes['cat']['7.JPEG'] = classes['cat']['7.JPEG'][:300]
  classes['dog']['./8.JPEG'] = _photo(rng, (33, 44))  # 8.JPEG again
  raw = small_release.write_release(tmp_path / 'raw', classes)
  builds = [_build(raw, tmp_path / f'{workers}', monkeypatch, workers) for workers in (1, 2)]
  assert [threads for _, threads in builds] == [1, 2]
  assert builds[0][0] == builds[1][0]
  assert any('train' in name and 'tfrecord' in name for name in builds[0][0])
  _, one, two = capsys.readouterr().out.split('Summary of imagenet_ab/local\n')
  counts = re.findall(r'(?m)^  \w.* \d+$', one)
  assert counts == re.findall(r'(?m)^  \w.* \d+$', two) and len(counts) > 6
  assert 'undecodable image' in one and 'given twice' in one


def test_images_come_in_order_and_few_are_held():
  rng = np.random.default_rng(1)
  files = [_photo(rng, (8 + 40 * (i % 2), 8 + i)) for i in range(60)]
  taken = 0

  def members():
    nonlocal taken
    for i, data in enumerate(files):
      taken += 1
      yield i, b'no image' if i == 5 else data

  for given, ((i, _), size) in enumerate(image_checks.with_sizes(members(), workers=3)):
    assert i == given and taken <= given + 2 * 3 + 1
    if i == 5:
      assert isinstance(size, image_files.BadImage)
    else:
      assert size == (8 + i, 8 + 40 * (i % 2))
  assert given == 59


def test_an_error_of_the_reader_ends_the_images_at_once():
  def members():
    yield 'a', small_release.image('red')
    raise KeyError('of the reader')

  with pytest.raises(KeyError, match='of the reader'):
    list(image_checks.with_sizes(members(), workers=2))


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
  corpus = fuzz_inputs.Corpus(tmp_path)
  accepted = refused = 0
  for number in range(500):
    data = fuzz.make_input('JPEG, PNG, BMP, GIF', number, 3, corpus)['image']
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
