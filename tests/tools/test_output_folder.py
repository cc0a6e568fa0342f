"""Output folders: completed first, then swapped in; a user's files are never touched."""

import os
import pathlib

import pytest

from luab_jax.errors import UserError
from luab_jax.tools import image_folders, output_folder


def _write(out, files, command='test'):
  with output_folder.replacing(out, command) as folder:
    for path, text in files.items():
      (folder / path).parent.mkdir(parents=True, exist_ok=True)
      if isinstance(text, pathlib.Path):
        os.link(text, folder / path)
      else:
        (folder / path).write_text(text)


def _content(out):
  return {
    path.relative_to(out).as_posix(): path.read_text()
    for path in sorted(out.rglob('*'))
    if path.is_file() and path.name != '.written.json'
  }


def test_files_of_the_same_command_are_replaced_and_others_stay(tmp_path):
  out = tmp_path / 'deep/out'
  _write(out, {'a/1': 'old', 'a/2': 'old', 'b/3': 'old', 'README.txt': 'old'})
  (out / 'notes').write_text('mine')
  _write(out, {'a/1': 'new', 'c': 'new'})
  assert _content(out) == {'a/1': 'new', 'c': 'new', 'notes': 'mine'}
  assert not (out / 'b').exists()


def test_nothing_changes_before_the_new_files_are_complete(tmp_path):
  _write(tmp_path, {'a/1': 'old'})
  for error in (ValueError, OSError, KeyboardInterrupt):
    with pytest.raises(error), output_folder.replacing(tmp_path, 'test') as folder:
      (folder / 'a').mkdir()
      (folder / 'a/1').write_text('new')
      assert _content(tmp_path)['a/1'] == 'old'
      raise error
    assert _content(tmp_path) == {'a/1': 'old'}


def test_what_a_killed_call_left_is_replaced(tmp_path):
  with pytest.raises(BrokenPipeError), output_folder.replacing(tmp_path, 'test') as folder:
    (folder / 'part').write_text('x')
    raise BrokenPipeError
  assert _content(tmp_path) == {'unfinished/part': 'x'}
  _write(tmp_path, {'a': 'new'})
  assert _content(tmp_path) == {'a': 'new'}


@pytest.mark.parametrize('place', ['a/1', 'a/mine', 'a/deep/mine', 'new', 'unfinished/x'])
def test_a_file_of_the_users_is_refused_and_kept(place, tmp_path):
  _write(tmp_path, {'a/1': 'old', 'b': 'old'})
  (tmp_path / place).parent.mkdir(exist_ok=True)
  (tmp_path / place).write_text('mine')
  before = _content(tmp_path)
  with pytest.raises(UserError, match=place.partition('/')[0]) as error:
    _write(tmp_path, {'a/1': 'new', 'b': 'new', 'new': 'new'})
  assert _content(tmp_path) == before and '\n' not in str(error.value)


def test_a_folder_that_a_user_put_in_place_of_ours_is_kept(tmp_path):
  out, mine = tmp_path / 'out', tmp_path / 'mine'
  _write(out, {'a/1': 'old'})
  (out / 'a').rename(mine)
  (out / 'a').symlink_to(mine)
  with pytest.raises(UserError, match='out/a was not written by this command'):
    _write(out, {'a/1': 'new'})
  assert (mine / '1').read_text() == 'old'


@pytest.mark.parametrize('command', ['', 'another'])
def test_a_folder_of_others_is_refused(command, tmp_path):
  if command:
    _write(tmp_path, {'a': 'x'}, command)
  else:
    (tmp_path / 'a').write_text('x')
  with pytest.raises(UserError, match='not empty and was not made by this command'):
    _write(tmp_path, {'a': 'new'})
  assert _content(tmp_path) == {'a': 'x'}


def test_the_only_copy_of_a_linked_image_is_kept(tmp_path, capsys):
  out, photos = tmp_path / 'out', tmp_path / 'photos'
  photos.mkdir()
  for name in 'ab':
    (photos / name).write_text(name)
  _write(out, {f'train/{name}': photos / name for name in 'ab'})
  (photos / 'a').unlink()
  _write(out, {'train/b': photos / 'b'})
  assert _content(out) == {'kept/train/a': 'a', 'train/b': 'b'}
  assert 'out/kept holds images' in capsys.readouterr().err
  (photos / 'b').write_text('edited')  # also changes the linked copy
  _write(out, {'train/c': 'c'})
  assert _content(out) == {'kept/train/a': 'a', 'train/c': 'c'}


def test_a_folder_that_is_being_written_is_refused(tmp_path):
  with output_folder.replacing(tmp_path, 'test') as folder:
    (folder / 'a').write_text('first')
    with pytest.raises(UserError, match='is being written by another process'):
      _write(tmp_path, {'a': 'second'})
  assert _content(tmp_path) == {'a': 'first'}


@pytest.mark.parametrize(
  ('out', 'given', 'message'),
  [
    ('photos', 'photos', 'is inside the image folder'),
    ('photos/new/out', 'photos', 'is inside the image folder'),
    ('link/out', 'photos', 'is inside the image folder'),
    ('photos/../photos/out', 'link', 'is inside the image folder'),
    ('.', 'photos', 'photos is inside the output folder'),
    ('.', 'link', 'link is inside the output folder'),
    ('link', 'photos/clicks.csv', 'clicks.csv is inside the output folder'),
    ('photos', 'link/clicks.csv', 'clicks.csv is inside the output folder'),
    ('photos', 'csv', 'csv is inside the output folder'),
    ('photos2', 'photos', ''),
    ('photos2', 'photos/clicks.csv', ''),
    ('photos/clicks', 'photos/clicks.csv', ''),
  ],
)
def test_overlap_is_refused(out, given, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'photos').mkdir()
  (tmp_path / 'photos/clicks.csv').write_text('')
  (tmp_path / 'link').symlink_to('photos')
  (tmp_path / 'csv').symlink_to('photos/clicks.csv')
  for start in ('', tmp_path):
    paths = (pathlib.Path(start, out), [pathlib.Path(given)])
    if message:
      with pytest.raises(UserError, match=message):
        output_folder.refuse_overlap(*paths)
    else:
      output_folder.refuse_overlap(*paths)


def test_links_to_folders_are_followed_once(tmp_path):
  (tmp_path / 'photos/dog').mkdir(parents=True)
  (tmp_path / 'disk/deep').mkdir(parents=True)
  for path in ('photos/dog/1', 'disk/2', 'disk/deep/3'):
    (tmp_path / path).write_text('')
  (tmp_path / 'photos/cat').symlink_to(tmp_path / 'disk')
  (tmp_path / 'disk/loop').symlink_to(tmp_path / 'photos')
  skipped = []
  found = image_folders.iter_files(tmp_path / 'photos', lambda *args: skipped.append(args))
  names = [path.relative_to(tmp_path).as_posix() for path in found]
  assert names == ['photos/cat/2', 'photos/cat/deep/3', 'photos/dog/1']
  assert skipped == [(tmp_path / 'photos/cat/loop', 'a link to one of its own parents')]
