"""Own data and the user's files: nothing is lost, links are followed, long names are shortened."""

import csv
import hashlib
import pathlib
import shlex

import numpy as np
import PIL.Image
import pytest

from luab_jax.errors import UserError
from luab_jax.tools.own_data import __main__ as own_data
from tests.own_photos import first_batch, read_counts
from tests.painted_data import encode, find_dot, paint
from tfds_builders import build

pytestmark = pytest.mark.slow


def _image(path, dot=0.5):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(encode(paint(60, 60, [(dot, dot)])))
  return path


@pytest.fixture
def photos(tmp_path):
  """Folders train and val of two classes with two images each."""
  for number, path in enumerate(
    f'{s}/{c}/{s}{i}.jpg' for s in ('train', 'val') for c in 'ab' for i in '01'
  ):
    _image(tmp_path / 'photos' / path, 0.3 + number / 20)
  return tmp_path / 'photos'


def _convert(out, images, *arguments):
  own_data.main([f'--images={images}', f'--out={out}', *map(str, arguments)])


def _digests(folder):
  return {
    path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file()
  }


def test_the_folder_made_before_cannot_be_the_input(photos, tmp_path, monkeypatch):
  out = tmp_path / 'out'
  _convert(out, photos / 'train', f'--validation={photos}/val')
  (out / 'clicks.csv').write_text('file,x,y\na/train0.jpg,1,1\n')
  (tmp_path / 'link').symlink_to(out)
  (tmp_path / 'linked/a').mkdir(parents=True)
  (tmp_path / 'linked/a/1.jpg').symlink_to(out / 'train/a/train0.jpg')
  (tmp_path / 'linked_folder').mkdir()
  (tmp_path / 'linked_folder/a').symlink_to(out / 'train/a')
  (tmp_path / 'above').mkdir()
  (tmp_path / 'above/a').symlink_to(tmp_path)
  monkeypatch.chdir(out / 'train')
  before = _digests(tmp_path)
  for images, *arguments in (
    (out / 'train', f'--validation={out}/val'),
    (photos / 'train', f'--validation={out}/val'),
    (tmp_path / 'link/train',),
    ('../train',),
    (tmp_path / 'linked',),
    (tmp_path / 'linked_folder',),
    (photos / 'train', f'--clicks={out}/clicks.csv'),
    (photos / 'train', f'--clicks={tmp_path}/link/clicks.csv'),
    (tmp_path / 'above',),
  ):
    with pytest.raises(UserError, match='inside the (output|image) folder') as error:
      _convert(out, images, *arguments)
    assert '\n' not in str(error.value) and _digests(tmp_path) == before


def test_a_failing_conversion_leaves_the_one_before(photos, tmp_path):
  out, clicks = tmp_path / 'out', tmp_path / 'clicks.csv'
  _convert(out, photos / 'train', f'--validation={photos}/val')
  before = _digests(out)
  clicks.write_text('file,x,y\nnone.jpg,1,1\n')
  with pytest.raises(UserError, match='none.jpg'):
    _convert(out, photos / 'train', f'--clicks={clicks}')
  _image(out / 'train/a/mine.jpg')
  with pytest.raises(UserError, match='train/a/mine.jpg was not written by this command'):
    _convert(out, photos / 'train')
  assert (out / 'train/a/mine.jpg').is_file() and before.items() <= _digests(out).items()


def test_images_whose_originals_are_gone_are_kept(photos, tmp_path, capsys):
  out = tmp_path / 'out'
  _convert(out, photos / 'train', f'--validation={photos}/val')
  before = set(_digests(photos).values())
  (photos / 'train/a/train0.jpg').unlink()
  _convert(out, photos / 'train', f'--validation={photos}/val')
  assert set(_digests(out / 'kept').values()) == before - set(_digests(photos).values())
  assert len(list((out / 'train').rglob('*.jpg'))) == 3 and 'kept holds' in capsys.readouterr().err


def test_class_folders_that_are_links(photos, tmp_path, capsys):
  (photos / 'train/a').rename(tmp_path / 'elsewhere')
  (photos / 'train/a').symlink_to(tmp_path / 'elsewhere')
  (photos / 'train/a/loop').symlink_to(photos / 'train')
  _convert(tmp_path / 'out', photos / 'train', f'--validation={photos}/val')
  said = capsys.readouterr().out
  assert '4  images for training' in said and 'a link to one of its own parents' in said


def test_names_too_long_for_a_file_system(photos, tmp_path, capsys):
  """File systems allow 255 bytes, and a Chinese character takes three."""
  longest = '\u732b' * 83
  for folder in ('one', 'two'):
    _image(photos / f'train/a/{folder}/{longest}.jpg')
  _image(photos / f'train/a/{longest}.jpg')
  _image(photos / f'train/a/{longest}.png')
  _convert(tmp_path / 'out', photos / 'train', f'--validation={photos}/val')
  said = capsys.readouterr().out
  assert '8  images for training' in said and 'too long for a file name' in said
  names = [path.name for path in (tmp_path / 'out/train/a').iterdir()]
  assert len(names) == len({name.rpartition('.')[0] for name in names}) == 6


@pytest.mark.parametrize('option', ['images', 'validation', 'clicks', 'out'])
@pytest.mark.parametrize('path', ['x' * 256, '\u732b' * 86, 'file/below', 'file'])
def test_paths_that_cannot_exist_are_one_line(option, path, photos, tmp_path):
  (tmp_path / 'file').write_text('')
  paths = {'images': photos / 'train', 'out': tmp_path / 'out', option: tmp_path / path}
  with pytest.raises(UserError) as error:
    own_data.main([f'--{name}={value}' for name, value in paths.items()])
  assert '\n' not in str(error.value) and path[:50] in str(error.value)


def test_files_of_phones_and_browsers(tmp_path, capsys):
  """JFIF is JPEG under another name, AVIF is converted, and HEIC is reported."""
  for label in ('cat', 'dog'):
    folder = tmp_path / 'photos' / label
    folder.mkdir(parents=True)
    (folder / '0.jfif').write_bytes(encode(paint(60, 80, [(0.25, 0.5)])))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = PIL.Image.fromarray(np.rot90(paint(60, 80, [(0.25, 0.5)])))
    image.save(folder / '1.AVIF', quality=95, exif=exif)
    (folder / '2.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(100))
  own_data.main([f'--images={tmp_path}/photos', f'--out={tmp_path}/raw'])
  output = capsys.readouterr().out
  counts = read_counts(output)
  assert counts['images found'] == 6 and counts['images unreadable, skipped'] == 2
  with open(tmp_path / 'raw/problems.csv', newline='') as file:
    problems = [(row['where'], row['detail']) for row in csv.DictReader(file)]
  reason = 'it is HEIC (or a video), which is not supported: convert it to JPEG'
  assert problems == [(f'{tmp_path}/photos/{label}/2.heic', reason) for label in ('cat', 'dog')]
  command = next(line for line in output.splitlines() if 'tfds_builders.build' in line)
  assert build.main(shlex.split(command)[3:]) == 0
  images = []
  for split, count in (('train', 'images for training'), ('validation', 'image for validation')):
    _, batch = first_batch(tmp_path / 'raw/built', 'imagenet_ab/local', split, counts[count])
    images += list(batch['image'])
  assert len(images) == 4
  for image in images:  # the centre crop of 80 x 60 px
    assert find_dot(image.mean(-1) / 255) == pytest.approx((10 / 60, 0.5), abs=0.03)
