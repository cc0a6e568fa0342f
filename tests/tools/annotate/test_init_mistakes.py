"""A one-line error for input that cannot become a study, and for studies that cannot be served."""

import json
import re
import socket
import sys

import pytest
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.annotate import __main__ as annotate
from tests.tools.annotate.serving import make_study

# {case: ({file: content, None for an image}, further options, pattern of the message)}
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
    "t.csv:3: the class 'a' occurs twice",
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
    "t.csv:2: 'a/c.jpg' is not an image",
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
  'a folder in use': ({'a/b.jpg': None, '../study/mine': b''}, [], 'already exists'),
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
