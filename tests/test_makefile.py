"""Which Python `make` takes, and what it says where none will do."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def make(tmp_path):
  """Runs make in a folder and on a PATH with the given Pythons alone: {name: (version, venv)}."""
  for name in ('Makefile', 'requirements.lock', 'pyproject.toml'):
    shutil.copy(ROOT / name, tmp_path)
  program = shutil.which('make')

  def run(pythons, *arguments):
    for name, (version, has_venv) in pythons.items():
      script = tmp_path / name
      code = f'import sys, ensurepip, venv; sys.version_info = {version}; '
      code += '' if has_venv else 'sys.modules["ensurepip"] = None; '
      script.write_text(f'#!/bin/sh\nexec {sys.executable} -c \'{code}exec(sys.argv[1])\' "$2"\n')
      script.chmod(0o755)
    return subprocess.run(
      [program, '--silent', *arguments],
      cwd=tmp_path,
      env={**os.environ, 'PATH': str(tmp_path)},
      capture_output=True,
      text=True,
    )

  return run


def test_the_newest_supported_python_comes_first(make):
  pythons = {f'python3.{minor}': ((3, minor), minor != 12) for minor in (11, 12, 13, 14)}
  assert make({**pythons, 'python3': ((3, 14), True)}, 'pythons').stdout.split() == [
    'python3.13',
    'python3.11',
  ]


def test_a_python3_in_range_will_do(make):
  assert make({'python3': ((3, 12), True)}, 'pythons').stdout == 'python3\n'


def test_python_3_14_alone_stops_with_one_line(make):
  result = make(dict.fromkeys(('python3', 'python3.14'), ((3, 14), True)), 'lint')
  assert result.returncode == 2 and not result.stderr.count('Traceback')
  (line,) = result.stdout.splitlines()
  assert 'luab_jax needs Python 3.11, 3.12 or 3.13' in line and 'TensorFlow has no final' in line


def test_a_python_that_is_out_of_range_is_refused(make):
  result = make({'mine': ((3, 10), True)}, 'lint', 'PYTHON=mine')
  assert result.stdout == 'PYTHON=mine is not Python 3.11, 3.12 or 3.13 with venv\n'
