"""Style and types, as `make lint` checks them."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('command', [['ruff', 'check', '.'], ['mypy', 'luab_jax']])
def test_there_is_nothing_to_complain_of(command):
  done = subprocess.run([sys.executable, '-m', *command], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
