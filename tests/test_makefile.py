"""Which Python `make` uses, what it says if none is suitable, and the locked versions for each."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def make(tmp_path):
  """Runs make with only the given Pythons on PATH: {name: (version, whether it has venv)}."""
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
      env={'PATH': str(tmp_path)},  # without the MAKEFLAGS of `make test PYTHON=…`
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


def test_the_documents_name_the_versions_of_the_lock():
  page = (ROOT / 'docs/running.md').read_text()
  rows = re.findall(r'^\| (3\.\d+\.\d+) \| ([\d.]+) \| ([\d.]+) \| 2 CPU cores', page, re.M)[:3]
  locked = []
  for python in ('3.13.0', '3.12.1', '3.11.7'):
    versions = {}
    for line in (ROOT / 'requirements.lock').read_text().splitlines():
      if line.startswith(('jax==', 'flax==')):
        found = Requirement(line.rstrip(' \\'))
        if found.marker is None or found.marker.evaluate({'python_full_version': python}):
          versions[found.name] = str(found.specifier).removeprefix('==')
    locked.append((python, versions['jax'], versions['flax']))
  assert rows == locked
