"""Images are decoded by threads, in order and a few at a time; a build can be interrupted."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from luab_jax.data.image_files import BadImage
from tfds_builders import image_check
from tfds_builders.imagenet_ab.small_release import image

ROOT = pathlib.Path(__file__).parents[2]


def test_results_come_in_order_and_few_items_are_held(monkeypatch):
  monkeypatch.setattr(image_check, 'cores', lambda: 3)
  barrier = threading.Barrier(3)  # passed only if three are decoded at the same time

  def slow_for_some(data, _):
    if data in (b'0', b'1', b'2'):
      barrier.wait(timeout=60)
    return BadImage('the seventh') if data == b'7' else (1, int(data))

  monkeypatch.setattr(image_check, 'check_image', slow_for_some)
  taken = []

  def items():
    for number in range(100):
      taken.append(number)
      yield str(number)

  for number, (item, size) in enumerate(image_check.check_images(items(), str.encode)):
    assert item == str(number) and len(taken) <= number + 3 * 4 + 1
    assert isinstance(size, BadImage) if number == 7 else size == (1, number)
  assert number == 99


def test_an_error_of_the_reader_or_the_decoder_is_raised(monkeypatch):
  def items():
    yield image('red')
    raise KeyError('of the reader')

  with pytest.raises(KeyError, match='of the reader'):
    list(image_check.check_images(items(), lambda data: data))

  def fail(data, **_):
    raise MemoryError('of the decoder')

  monkeypatch.setattr(image_check, 'encode', fail)
  with pytest.raises(MemoryError, match='of the decoder'):
    list(image_check.check_images([image('red')], lambda data: data))


def test_sizes_and_damage():
  images = [image('red', size=(7, 5)), image('red')[:-40], b'no image']
  results = [result for _, result in image_check.check_images(images, lambda data: data)]
  assert results[0] == (images[0], (5, 7), (5, 7), '', 1, False)
  assert all(isinstance(result, BadImage) for result in results[1:])


@pytest.mark.slow
def test_ctrl_c_ends_a_build_and_leaves_nothing(tmp_path):
  """In the middle of a split, while images are waiting to be decoded."""
  code = textwrap.dedent("""
      import pathlib, signal, sys, time
      from tfds_builders import build
      from tfds_builders.imagenet_ab import small_release
      signal.signal(signal.SIGINT, signal.default_int_handler)
      folder = pathlib.Path(sys.argv[1])
      images = {f'{number}.JPEG': small_release.image('red') for number in range(200)}
      small_release.write_release(folder / 'raw', {'cat': images})
      from tfds_builders.imagenet_ab import example
      encode = example.encode
      def announced(data, file_name, *rest):
        if file_name == '50.JPEG':
          print('at work', flush=True)
          time.sleep(60)
        return encode(data, file_name, *rest)
      example.encode = announced
      sys.exit(build.main(
        ['imagenet_ab/local', f'--manual_dir={folder}/raw', f'--data_dir={folder}/data']))
      """)
  with subprocess.Popen(
    [sys.executable, '-c', code, str(tmp_path)],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as process:
    while (line := process.stdout.readline()) != 'at work\n':
      assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
  assert process.returncode == 130, errors
  assert 'Traceback' not in errors and 'interrupted' in errors.splitlines()[-1]
  assert not [path for path in (tmp_path / 'data/imagenet_ab/local').rglob('*') if path.is_file()]
