"""The two commands that build a data set, and what they share."""

import collections
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tfds_builders import build, build_summary
from tfds_builders.imagenet_ab.small_release import T, image, write_class_tars, write_release

pytestmark = pytest.mark.slow

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _run(*args, cwd, **env):
  return subprocess.run(
    args,
    cwd=cwd,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', **env},
  )


def test_the_tfds_command_line_builds_and_any_folder_loads(tmp_path):
  """`tfds build` in another folder with a relative manual_dir; `tfds.load` without our code."""
  write_release(tmp_path / 'raw')
  tool = pathlib.Path(sys.executable).parent / 'tfds'
  done = _run(
    tool,
    'build',
    REPOSITORY / 'tfds_builders' / 'imagenet_ab',
    '--config=local',
    '--manual_dir=raw',
    '--data_dir=data',
    cwd=tmp_path,
    PYTHONPATH=str(REPOSITORY),
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert 'Summary of imagenet_ab/local' in done.stdout
  done = _run(
    sys.executable,
    '-c',
    (
      'import sys, tensorflow_datasets as tfds\n'
      'rows = list(tfds.as_numpy(tfds.load("imagenet_ab/local", data_dir="data", split="train")))\n'
      'print(len(rows), max(row["clicks"]["time_ms"].max(initial=0) for row in rows))\n'
      'assert not any(name.startswith(("luab_jax", "tfds_builders")) for name in sys.modules)'
    ),
    cwd=tmp_path,
    PYTHONPATH='',
  )
  assert done.stdout.split() == ['5', str(T + 3)], done.stderr[-3000:]


def test_the_tfds_command_line_prints_a_mistake_as_one_line(tmp_path):
  """It prints only the text of SystemExit, which is why the builder raises BuildStopped."""
  script = (
    'from tfds_builders import build_summary\n'
    'from luab_jax.errors import UserError\n'
    'with build_summary.one_line_errors("data"):\n  raise UserError("fix it")'
  )
  done = _run(sys.executable, '-c', script, cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
  assert (done.returncode, done.stderr, done.stdout) == (1, 'fix it\n', '')


def test_our_command_line(tmp_path, capsys):
  raw = write_release(tmp_path / 'raw')
  args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={tmp_path / "data"}']
  assert build.main(args) == 0
  assert 'images written' in capsys.readouterr().out
  (raw / 'my_img_val.tar').unlink()
  assert build.main(args) == 0
  assert 'Summary' not in capsys.readouterr().out, 'it was built again'
  write_class_tars(raw / 'my_img_train.tar', {'owl': {'1.JPEG': image('red')}})
  assert build.main([*args, '--overwrite']) == 0
  assert 'images written 1 with XML 0' in ' '.join(capsys.readouterr().out.split())
  assert build.main(['imagenet_ab/local', '--manual_dir=/absent']) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith('error: --manual_dir=/absent is not a folder')
  assert captured.err.count('\n') == 1


def _names_and_content(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def test_overwriting_keeps_the_old_data_set_until_the_new_one_is_complete(tmp_path, capsys):
  raw, data = write_release(tmp_path / 'raw'), tmp_path / 'data'
  args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={data}', '--overwrite']
  assert build.main(args) == 0
  before = _names_and_content(data)
  built = data / 'imagenet_ab/local/1.0.0'
  (built / 'mine.tar').write_text('precious')  # say, a raw file
  assert build.main(args) == 2
  assert f'{built}/mine.tar was not written by a build' in capsys.readouterr().err
  (built / 'mine.tar').unlink()
  tar = (raw / 'my_img_train.tar').read_bytes()
  (raw / 'my_img_train.tar').write_bytes(tar[:700])
  assert build.main(args) == 2 and _names_and_content(data) == before
  write_class_tars(raw / 'my_img_train.tar', {'owl': {'1.JPEG': image('red')}})
  assert build.main(args) == 0
  after = _names_and_content(data)
  assert after.keys() == before.keys() and after != before
  assert 'images written 2' in ' '.join(capsys.readouterr().out.split())


def test_too_little_room_is_one_line_before_anything_is_read(tmp_path, monkeypatch, capsys):
  raw = write_release(tmp_path / 'raw')
  usage = collections.namedtuple('usage', 'total used free')
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(10**9, 10**9, 9_999))
  with (raw / 'my_img_train.tar').open('ab') as file:
    file.truncate(290 * 10**9)  # sparse: takes no disk space
  args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={tmp_path}/data']
  assert build.main(args) == 2
  said = capsys.readouterr().err.splitlines()
  assert 'data has 0 MB free, and the data set needs about 290,000 MB: free some' in said[-1]
  assert not list((tmp_path / 'data').rglob('*.tfrecord*'))


@contextlib.contextmanager
def _disk(folder, options):
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('needs to mount a file system')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '-l', folder], check=True)


@pytest.mark.parametrize(
  ('options', 'reason'),
  [('ro', 'Read-only file system'), ('size=4k', 'full'), ('size=52k', 'full|No space left')],
)
def test_a_disk_that_cannot_be_written_is_one_line(options, reason, tmp_path, monkeypatch, capsys):
  raw = write_release(tmp_path / 'raw')
  monkeypatch.setattr(build_summary, 'check_room', lambda *_: None)
  with _disk(tmp_path / 'disk', options) as disk:
    args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={disk}']
    assert build.main(args) == 2
  said = capsys.readouterr().err.splitlines()
  assert said[-1].startswith(f'error: cannot write to --data_dir={disk}: ')
  assert re.search(reason, said[-1])
  assert not any('Traceback' in line for line in said)


def test_a_data_dir_below_a_file_is_one_line(tmp_path, capsys):
  raw = write_release(tmp_path / 'raw')
  (tmp_path / 'file').write_text('')
  args = ['imagenet_ab/local', f'--manual_dir={raw}', f'--data_dir={tmp_path}/file/data']
  assert build.main(args) == 2
  assert 'error: cannot write to --data_dir=' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (
      ['coco/local', '--manual_dir=x'],
      "'coco/local' (choose from 'imagenet_ab/ilsvrc2012', 'imagen",
    ),
    (
      ['coco_ab/local'],
      'the following arguments are required: --manual_dir; see python -m tfds_bui',
    ),
    (
      ['coco_ab/local', '--manual_dir=x', '--x'],
      'unrecognized arguments: --x; see python -m tfds_b',
    ),
  ],
)
def test_a_mistyped_command_is_one_line(args, message, capsys):
  assert build.main(args) == 2
  said = capsys.readouterr().err
  assert said.startswith('error: ') and message in said and said.count('\n') == 1
