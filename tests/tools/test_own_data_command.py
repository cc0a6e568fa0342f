"""The own_data command: what it says about mistakes and odd data, and help without slow imports."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from luab_jax.errors import UserError
from luab_jax.tools.own_data import __main__ as own_data
from tests.own_photos import paint_photos, read_counts, write_csv
from tests.painted_data import encode, paint

pytestmark = pytest.mark.slow


ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(tmp_path):
  """(folder of 18 images of two classes with one dot each, {path in it: (x, y) of the dot})."""
  return tmp_path / 'photos', paint_photos(tmp_path / 'photos')


def test_mistakes_are_one_line(photos, tmp_path):
  folder, dots = photos
  clicks = tmp_path / 'clicks.csv'
  name = next(iter(dots))

  def failing(match, *arguments, images=folder, out='raw'):
    with pytest.raises(UserError, match=match) as error:
      own_data.main([f'--images={images}', f'--out={tmp_path / out}', *arguments])
    assert '\n' not in str(error.value)

  failing('absent is not a folder', images=tmp_path / 'absent')
  failing('holds no images in class folders', images=folder / 'dog/deep')
  failing('is inside the image folder .*photos', out='photos/raw')
  failing('--clicks is for class folders', '--coco=x.json', f'--clicks={clicks}')
  failing('must be between 0 and 1', '--validation_fraction=1')
  failing('photos/dog is inside the output folder', images=folder / 'dog', out='photos')
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other/mine').write_text('')
  failing('other is not empty and was not made by this command', out='other')
  failing('photos is a folder: --clicks takes a file', f'--clicks={folder}')
  failing('absent is not a folder', f'--validation={tmp_path}/absent')
  failing('i.json cannot be read: No such file', f'--coco={tmp_path}/i.json')
  failing('clicks.csv cannot be read: No such file', f'--clicks={clicks}')
  for rows, match in (
    ([('name', 'x', 'y')], 'the first line must name the columns file,x,y'),
    ([('file', 'x', 'y')], 'clicks.csv has no rows below its first line: .* omit --clicks'),
    ([('file', 'x', 'y'), ('cow.jpg', 1, 2)], "none of its rows .*'cow.jpg': no such image"),
    ([('file', 'x', 'y'), (name, 9999, 9999)], '1 of 1 click outside .*--click_units=fraction'),
  ):
    write_csv(clicks, rows[0], rows[1:])
    failing(match, f'--clicks={clicks}')
  clicks.write_bytes(b'')
  failing('clicks.csv is empty', f'--clicks={clicks}')
  clicks.write_bytes('file,x,y\nä,1,2'.encode('latin-1'))
  failing('is not a CSV in UTF-8', f'--clicks={clicks}')
  (tmp_path / 'i.json').write_text('{"images": []}')
  failing('i.json is not a COCO instances file.*KeyError.*annotations', f'--coco={tmp_path}/i.json')
  (folder / 'dog ').mkdir()
  (folder / 'dog /1.jpg').write_bytes(b'')
  failing("begins or ends with white space: rename the folder 'dog '")


def test_a_folder_one_level_too_high(photos, tmp_path, capsys):
  folder, _ = photos
  given, out = tmp_path / 'disk/all', f'--out={tmp_path}/raw'
  (given / 'validation/dog').mkdir(parents=True)
  folder.rename(given / 'Train')
  (given / 'validation/dog/1.jpg').write_bytes((given / 'Train/dog/1.jpg').read_bytes())
  right = f'--images={given}/Train --validation={given}/validation'
  for wrong, remedy in (
    ([f'--images={given}'], right),
    ([f'--images={given}', f'--validation={given}/validation'], right),
    ([f'--images={given}/Train', f'--validation={given}'], f'--validation={given}/validation'),
    ([f'--images={given.parent}'], f"'all', holds 2 folders .* pass --images={given}"),
  ):
    with pytest.raises(UserError, match=remedy):
      own_data.main([*wrong, out])
  own_data.main([*right.split(), out])
  # Subfolders of a class are allowed, and so is a class named like a split.
  (given / 'Train').rename(given / 'pets')
  (given / 'validation').rename(given / 'Test')
  own_data.main([f'--images={given}', out])
  output = capsys.readouterr().out
  assert read_counts(output)['class with all images in several subfolders, kept'] == 1
  assert f'{given}/pets: Katze, dog' in output


def test_a_single_class_is_reported(photos, tmp_path, capsys):
  folder, _ = photos
  (folder / 'dog').rename(tmp_path / 'dog')
  own_data.main([f'--images={folder}', f'--out={tmp_path}/raw'])
  counts = read_counts(capsys.readouterr().out)
  assert counts['single class: nothing to classify, kept'] == 1


@pytest.mark.parametrize(
  ('side', 'furthest', 'unit'), [(300, 99, 'percent'), (300, 101, 'pixels'), (150, 99, 'pixels')]
)
def test_clicks_that_may_be_percentages(side, furthest, unit, tmp_path, capsys):
  rng = np.random.default_rng(0)
  rows = []
  for label in ('cat', 'dog'):
    (tmp_path / 'photos' / label).mkdir(parents=True)
    for number in range(15):
      name = f'{label}/{number}.jpg'
      (tmp_path / 'photos' / name).write_bytes(encode(paint(side, side, [(0.5, 0.5)])))
      rows.append((name, *rng.uniform(1, 98, 2)))
  rows[7] = (rows[7][0], furthest, 3)
  write_csv(tmp_path / 'clicks.csv', ('file', 'x', 'y'), rows)
  own_data.main(
    [f'--images={tmp_path}/photos', f'--clicks={tmp_path}/clicks.csv', f'--out={tmp_path}/raw']
  )
  output = capsys.readouterr().out
  assert (
    'file with no click beyond 100 px: percentages? Divide by 100 and pass '
    '--click_units=fraction' in output
  ) == (unit == 'percent')
  *_, question, study, few_images, few_clicks = output.splitlines()
  assert (
    question.startswith('Did the clicks help?')
    and ' --mode=study --workdir=runs/raw_study' in study
  )
  assert few_images.startswith('  Warning: validation has 4 images: too few')
  assert few_clicks.startswith('  Warning: 30 clicks: too few')


def test_images_that_are_all_unreadable_are_one_line(tmp_path):
  (tmp_path / 'photos/cat').mkdir(parents=True)
  for number in range(3):
    (tmp_path / f'photos/cat/{number}.heif').write_bytes(b'\0\0\0\x18ftypmif1' + bytes(100))
  with pytest.raises(UserError, match='no readable training images: .*0.heif: it is HEIC'):
    own_data.main([f'--images={tmp_path}/photos', f'--out={tmp_path}/raw'])


@pytest.mark.parametrize('option', ['--help', '--no-such-option'])
def test_help_does_not_import_tensorflow(option):
  code = (
    'import runpy, sys\n'
    f'sys.argv = ["own_data", {option!r}]\n'
    'try:\n  runpy.run_module("luab_jax.tools.own_data", run_name="__main__")\n'
    'except SystemExit:\n  print("tensorflow" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.splitlines()[-1] == 'False'


def test_a_damaged_image_and_a_closed_stdout_leave_the_console_clean(photos, tmp_path, monkeypatch):
  """As in `| head`: the exit status of SIGPIPE, nothing on stderr, and complete files."""
  monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')  # set by conftest.py
  folder, _ = photos
  (folder / 'dog/bad.jpg').write_bytes((folder / 'dog/1.jpg').read_bytes()[:-100])
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'luab_jax.tools.own_data',
      f'--images={folder}',
      f'--out={tmp_path}/raw',
    ],
    cwd=ROOT,
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.close(writer)
  assert (done.returncode, done.stderr) == (141, '')
  assert 'Next, from the folder of run.py' in (tmp_path / 'raw/README.txt').read_text()
  assert 'bad.jpg' in (tmp_path / 'raw/problems.csv').read_text()


def test_paths_are_checked_before_tensorflow_is_imported(tmp_path):
  source = f"""import sys
from luab_jax.tools.own_data.__main__ import UserError, main
for option in ('images=absent', 'validation=absent', 'clicks=absent'):
  try:
    main(['--images={tmp_path}', '--' + option, '--out={tmp_path}/raw'])
  except UserError as error:
    print(error)
print('tensorflow' in sys.modules)"""
  output = subprocess.run(
    [sys.executable, '-c', source], cwd=ROOT, check=True, capture_output=True, text=True
  ).stdout.splitlines()
  assert len(output) == 4 and output[-1] == 'False'
