"""New studies: how images are scanned and assigned to pages, and how unusable ones are reported."""

import io
import re
import sqlite3
import subprocess
import sys

import pytest
from PIL import Image

from luab_jax.tools.annotate import __main__ as annotate
from luab_jax.tools.annotate import images, pages, serve, study
from tests.tools.annotate.serving import ROOT, make_images, make_study


def _rows(folder, query):
  with sqlite3.connect(folder / 'study.db') as db:
    return db.execute(query).fetchall()


def test_images_of_a_class_are_dealt_once_to_pages_of_equal_size(tmp_path):
  folder = make_study(tmp_path, '--page_size=4', count=9)
  dealt = _rows(
    folder,
    'SELECT page.class, page.position, image.path, image.class FROM page_image '
    "JOIN page ON page.id = page JOIN image ON image.id = image WHERE kind = 'work'",
  )
  assert sorted(row[2] for row in dealt) == sorted(
    f'{label}/{n}.jpg' for label in ('cat', 'dog') for n in range(9)
  )
  assert all(label == path.partition('/')[0] == own for label, _, path, own in dealt)
  sizes = [sum(row[1] == position for row in dealt) for position in range(1, 7)]
  assert sizes == [3] * 6
  labels = {position: label for label, position, _, _ in dealt}
  assert labels[1] != labels[2]  # classes take turns


def test_gold_is_spread_over_the_pages_of_its_class(tmp_path):
  gold = tmp_path / 'gold.csv'
  gold.write_text('file,class,present\ncat/0.jpg,cat,1\ncat/1.jpg,cat,\ndog/0.jpg,cat,0\n')
  folder = make_study(tmp_path, '--page_size=3', f'--gold={gold}', count=7)
  known = _rows(
    folder,
    'SELECT page.position, path, gold FROM page_image JOIN page ON page.id = page '
    'JOIN image ON image.id = image WHERE gold IS NOT NULL',
  )
  assert sorted((path, value) for _, path, value in known) == [
    ('cat/0.jpg', 1),
    ('cat/1.jpg', 1),
    ('dog/0.jpg', 0),
  ]
  assert len({position for position, _, _ in known}) == 3
  shown = _rows(folder, 'SELECT class, count(*) FROM page_image JOIN page ON page.id = page '
                "WHERE kind = 'work' GROUP BY class ORDER BY class")  # fmt: skip
  assert shown == [('cat', 8), ('dog', 7)]


def test_dealing_depends_on_the_seed_alone():
  candidates = {'a': [str(n) for n in range(10)]}
  assert pages.deal_grid(candidates, {}, 4, 1) == pages.deal_grid(candidates, {}, 4, 1)
  assert pages.deal_grid(candidates, {}, 4, 1) != pages.deal_grid(candidates, {}, 4, 2)


def test_candidates_and_classes_of_tables(tmp_path):
  make_images(tmp_path / 'images')
  (tmp_path / 'candidates.csv').write_text('file,class\ncat/0.jpg,animal\ndog/0.jpg,animal\n')
  (tmp_path / 'classes.csv').write_text(
    'name,definition,examples\nanimal,"lives, moves",images/cat/1.jpg; images/dog/1.jpg\n'
  )
  folder = make_study(
    tmp_path, f'--candidates={tmp_path}/candidates.csv', f'--classes={tmp_path}/classes.csv'
  )
  (found,) = study.read(folder).classes
  assert (found.name, found.definition, len(found.examples)) == ('animal', 'lives, moves', 2)
  assert all((folder / 'renditions' / name).is_file() for name in found.examples)
  paths = _rows(folder, "SELECT path FROM image WHERE class = 'animal' ORDER BY path")
  assert paths == [('cat/0.jpg',), ('dog/0.jpg',)]


def test_icons_are_cocos_or_your_own(tmp_path):
  folder = make_study(tmp_path, task='icons')
  settings = study.read(folder)
  assert (len(settings.classes), len(settings.groups), settings.page_size) == (80, 11, 1)
  (tmp_path / 'classes.csv').write_text('name,group\nbee,small\nbear,large\nant,small\n')
  drawings = tmp_path / 'drawings'
  drawings.mkdir()
  Image.new('RGBA', (300, 200)).save(drawings / 'bee.png')
  out = tmp_path / 'own'
  annotate.main(
    [
      'init',
      '--task=icons',
      f'--images={tmp_path}/images',
      f'--out={out}',
      f'--classes={tmp_path}/classes.csv',
      f'--icons={drawings}',
    ]
  )
  settings = study.read(out)
  assert settings.groups == ['small', 'large']
  (icon,) = [found.icon for found in settings.classes if found.icon]
  with Image.open(out / 'renditions' / icon) as image:
    assert image.size == (160, 107) and image.mode == 'RGBA'


def test_icons_without_groups_are_dealt_to_pages_of_ten(tmp_path):
  names = [f'thing {number}' for number in range(12)]
  (tmp_path / 'classes.csv').write_text('name\n' + '\n'.join(names) + '\n')
  settings = study.read(make_study(tmp_path, f'--classes={tmp_path}/classes.csv', task='icons'))
  assert settings.groups == ['Icons 1', 'Icons 2']
  assert [found.group for found in settings.classes] == ['Icons 1'] * 10 + ['Icons 2'] * 2


def test_renditions_are_upright_small_and_without_metadata():
  photo, file = Image.new('RGB', (3200, 1000), 'red'), io.BytesIO()
  photo.paste('blue', (0, 0, 1600, 1000))
  exif = Image.Exif()
  exif[0x0112] = 6  # to be rotated clockwise for display
  exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)  # GPS
  photo.save(file, 'JPEG', exif=exif, comment=b'my house', icc_profile=b'profile')
  made = images.render(file.getvalue())
  assert (made.width, made.height) == (1000, 3200)
  with Image.open(io.BytesIO(made.data)) as shown:
    assert shown.size == (500, 1600)
    assert shown.getpixel((250, 100))[2] > 200 and shown.getpixel((250, 1500))[0] > 200
    assert not shown.getexif() and not {'comment', 'icc_profile', 'exif'} & shown.info.keys()


@pytest.mark.parametrize(('mode', 'size'), [('I;16', (8, 8)), ('RGB', (600, 8))])
def test_images_that_cannot_be_trained_on_are_refused(mode, size):
  file = io.BytesIO()
  Image.new(mode, size).save(file, 'PNG')
  with pytest.raises(ValueError, match='more than 8 bits per channel|more than 50 times as long'):
    images.render(file.getvalue())


def test_what_cannot_be_used_is_counted_and_named(tmp_path, capsys):
  folder = make_images(tmp_path / 'images', classes=('cat',), count=2)
  (folder / 'cat' / 'bad.jpg').write_bytes(b'\xff\xd8 no image')
  (folder / 'cat' / 'notes.txt').touch()
  (folder / 'stray.jpg').write_bytes((folder / 'cat' / '0.jpg').read_bytes())
  out = make_study(tmp_path, classes=('cat',), count=2)
  said = capsys.readouterr().out
  assert 'Study of 2 images on 1 page,' in said and 'cat/bad.jpg' in said
  skipped = (out / 'skipped.csv').read_text()
  assert [name in skipped for name in ('bad.jpg', 'notes.txt', 'stray.jpg')] == [True] * 3
  assert _rows(out, "SELECT count(*) FROM image WHERE path LIKE '%bad%'") == [(0,)]


def test_secrets_are_for_their_owner(tmp_path):
  folder = make_study(tmp_path, '--workers=2')
  assert (folder / 'secret.json').stat().st_mode & 0o777 == 0o600
  assert folder.stat().st_mode & 0o077 == 0
  keys = study.read_secrets(folder)
  public = (folder / 'study.json').read_text() + str(_rows(folder, 'SELECT * FROM worker'))
  for token in (keys.join, keys.admin, keys.key, keys.salt, *keys.personal.values()):
    assert len(token) >= 22 and token not in public


def test_origins_are_written_as_browsers_do():
  assert serve._origin('https://Lab.Example:443/') == 'https://lab.example'
  assert serve._origin('http://lab.example:8080') == 'http://lab.example:8080'
  assert serve._origin('http://[::1]:80') == 'http://[::1]'


def test_the_command_prints_one_line_and_needs_no_tensorflow():
  code = (
    'import sys\n'
    'from luab_jax.tools.annotate import __main__, app, demo, forget, init, serve\n'
    "print({'tensorflow', 'jax', 'matplotlib'} & {name.partition('.')[0] for name in sys.modules})"
  )
  said = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert said.stdout == 'set()\n'
  command = [sys.executable, '-m', 'luab_jax.tools.annotate', 'serve', 'nowhere']
  said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert said.returncode == 2 and re.fullmatch(r'error: nowhere holds no study .*\n', said.stderr)
