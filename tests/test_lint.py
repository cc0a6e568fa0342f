"""Style, types, and lengths of files and functions; `make lint` checks the first two."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
_LINES_OF_A_FILE, _LINES_OF_A_FUNCTION = 300, 60


@pytest.mark.parametrize(
  'command', [['ruff', 'check', '.'], ['ruff', 'format', '--check', '.'], ['mypy', 'luab_jax']]
)
def test_lint_finds_nothing(command):
  done = subprocess.run([sys.executable, '-m', *command], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_pre_commit_runs_the_ruff_of_the_lock():
  locked = re.search(r'^ruff==([\d.]+)', (ROOT / 'requirements.lock').read_text(), re.M)[1]
  assert f'ruff-pre-commit\n    rev: v{locked} ' in (ROOT / '.pre-commit-config.yaml').read_text()


def _long_functions(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= _LINES_OF_A_FUNCTION:
      yield f'{path.name}:{node.name}'


def test_functions_are_short():
  product = [
    ROOT / 'run.py',
    *(ROOT / 'luab_jax').rglob('*.py'),
    *(p for p in (ROOT / 'tfds_builders').rglob('*.py') if not p.name.endswith('_test.py')),
  ]
  assert len(product) > 50
  assert [name for path in product for name in _long_functions(path)] == []


def test_files_are_short():
  folders = 'luab_jax configs tfds_builders benchmarks docs tests'.split()
  lines = {
    path.relative_to(ROOT).as_posix(): path.read_text().count('\n')
    for folder in folders
    for suffix in ('py', 'js', 'css')
    for path in (ROOT / folder).rglob(f'*.{suffix}')
  }
  assert len(lines) > 300
  assert {name: count for name, count in lines.items() if count > _LINES_OF_A_FILE} == {}
  assert len((ROOT / 'run.py').read_text().splitlines()) <= 100
