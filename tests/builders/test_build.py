"""The two command lines that build a data set, and what they share."""

import os
import pathlib
import subprocess
import sys

import pytest

from tfds_builders import build
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
  """`tfds build` from elsewhere with a relative manual_dir; `tfds.load` without our code."""
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
  """It prints SystemExit's text alone, which is why the builder raises BuildStopped."""
  script = (
    'from tfds_builders import build_summary\n'
    'from luab_jax.errors import UserError\n'
    'with build_summary.one_line_errors():\n  raise UserError("fix it")'
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
