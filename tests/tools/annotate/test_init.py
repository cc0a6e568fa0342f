"""New studies: how images are scanned and dealt, and one line for what cannot be used."""

import io
import json
import re
import socket
import sqlite3
import subprocess
import sys

import pytest
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
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
  assert labels[1] != labels[2]  # classes in turns


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
  exif[0x0112] = 6  # to be turned clockwise
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
  with pytest.raises(ValueError, match='more than 8 bits a channel|more than 50 times as long'):
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


# (what is there, further options, what the message names)
_BAD = {
  'no folder': ({}, ['--images=nothing'], 'nothing is not a folder'),
  'no images': ({'a/b.txt': b''}, [], 'holds no images'),
  'no readable image': ({'a/b.jpg': b'x'}, [], 'holds no readable images.*b.jpg: '),
  'no class folders': ({'b.jpg': None}, [], 'holds no class folders'),
  'a class like a hidden file': ({'a\\b/c.jpg': None}, [], 'rename the folder'),
  'a table without classes': (
    {'a/b.jpg': None, '../t.csv': b'name,definition\n'},
    ['--classes=t.csv'],
    't.csv names no class',
  ),
  'a table without names': (
    {'a/b.jpg': None, '../t.csv': b'class\na\n'},
    ['--classes=t.csv'],
    r'must name the columns name\[,definition\]',
  ),
  'a class twice': (
    {'a/b.jpg': None, '../t.csv': b'name\na\na\n'},
    ['--classes=t.csv'],
    "t.csv:3: the class 'a' comes twice",
  ),
  'a class without images': (
    {'a/b.jpg': None, '../t.csv': b'name\na\nz\n'},
    ['--classes=t.csv'],
    "names 'z', which has no images",
  ),
  'a class that is not described': (
    {'a/b.jpg': None, 'z/b.jpg': None, '../t.csv': b'name\na\n'},
    ['--classes=t.csv'],
    "lacks the class 'z'",
  ),
  'an example that is not there': (
    {'a/b.jpg': None, '../t.csv': b'name,examples\na,no.jpg\n'},
    ['--classes=t.csv'],
    'no.jpg cannot be shown',
  ),
  'gold that is not there': (
    {'a/b.jpg': None, '../t.csv': b'file,class\na/c.jpg,a\n'},
    ['--gold=t.csv'],
    "t.csv:2: 'a/c.jpg' is no image",
  ),
  'gold of no class': (
    {'a/b.jpg': None, '../t.csv': b'file,class\na/b.jpg,z\n'},
    ['--gold=t.csv'],
    "no class 'z'",
  ),
  'gold that is neither': (
    {'a/b.jpg': None, '../t.csv': b'file,class,present\na/b.jpg,a,yes\n'},
    ['--gold=t.csv'],
    "present is 'yes', not 1 or 0",
  ),
  'an option of the other task': ({'a/b.jpg': None}, ['--require_all_pages'], 'for --task=icons'),
  'more icons than events can name': (
    {'a/b.jpg': None, '../t.csv': b'name\n' + b''.join(b'%d\n' % n for n in range(1001))},
    ['--task=icons', '--classes=t.csv'],
    '1001 classes, at most 1000',
  ),
  'pages of nothing': ({'a/b.jpg': None}, ['--page_size=0'], 'page_size=0'),
  'no answers': ({'a/b.jpg': None}, ['--answers=0'], 'answers=0'),
  'a folder in use': ({'a/b.jpg': None, '../study/mine': b''}, [], 'there already'),
  'a folder in the images': ({'a/b.jpg': None}, ['--out=images/study'], 'keep them apart'),
  'an option that is not there': ({}, ['--what'], 'unrecognized arguments'),
}


@pytest.mark.parametrize('case', _BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(tmp_path, monkeypatch, case):
  files, options, message = _BAD[case]
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'images').mkdir()
  for name, data in files.items():
    path = tmp_path / 'images' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
      Image.new('RGB', (8, 8)).save(path)
    else:
      path.write_bytes(data)
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(UserError) as error:
    annotate.main(['init', '--task=grid', '--images=images', '--out=study', *options])
  assert re.search(message, str(error.value)) and '\n' not in str(error.value)
  assert sorted(tmp_path.rglob('*')) == before


def test_what_cannot_be_served_gets_one_line(tmp_path):
  folder = make_study(tmp_path)
  for command, message in (
    (['serve', str(tmp_path)], 'holds no study'),
    (['serve', str(folder), '--host=0.0.0.0'], 'needs --public_url'),
    (['serve', str(folder), '--host=192.0.2.1', '--public_url=https://x.example'], 'cannot listen'),
    (['serve', str(folder), '--public_url=lab.example'], 'must be like https://'),
    (['serve', str(folder), '--port=99999'], 'cannot listen'),
    (['forget', str(folder), 'nobody'], "no worker 'nobody'"),
  ):
    with pytest.raises(UserError, match=message):
      annotate.main(command)
  with socket.create_server(('127.0.0.1', 0)) as taken, pytest.raises(UserError, match='in use'):
    annotate.main(['serve', str(folder), f'--port={taken.getsockname()[1]}'])
  with output_folder.locked(folder, ''), pytest.raises(UserError, match='served already'):
    annotate.main(['serve', str(folder), '--port=0'])
  settings = json.loads((folder / 'study.json').read_text())
  for broken, message in (
    ({**settings, 'version': 2}, 'a study of version 2'),
    ({**settings, 'task': 'boxes'}, 'is damaged'),
    ([], 'is damaged'),
  ):
    (folder / 'study.json').write_text(json.dumps(broken))
    with pytest.raises(UserError, match=message):
      annotate.main(['serve', str(folder)])
  (folder / 'study.json').write_text(json.dumps(settings))
  (folder / 'study.db').write_bytes(b'no database' * 1000)
  with pytest.raises(UserError, match='cannot be used'):
    annotate.main(['serve', str(folder), '--port=0'])
  (folder / 'study.db').unlink()
  with pytest.raises(UserError, match='is missing'):
    annotate.main(['serve', str(folder), '--port=0'])


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
  folder = make_study(tmp_path)
  for name in ('app', 'serve'):
    monkeypatch.delitem(sys.modules, f'luab_jax.tools.annotate.{name}', raising=False)
    monkeypatch.delattr(f'luab_jax.tools.annotate.{name}', raising=False)
  monkeypatch.setitem(sys.modules, 'uvicorn', None)
  with pytest.raises(UserError, match=r"serve needs the package uvicorn: pip install -e '\.\[ann"):
    annotate.main(['serve', str(folder)])


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
