"""Figures in the documents were measured with the current code.

A comment before a table names the files that its figures depend on, and a digest of their code:

  <!-- measured: configs/quickstart.py luab_jax/models/tiny.py @ 1a2b3c4d5e6f -->

A folder stands for all Python files in it. Comments, docstrings and blank lines do not count.
"""

import ast
import hashlib
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MARK = re.compile(r'^<!-- measured: (.+) @ (\w+) -->$')


def _measured():
  for path in sorted([ROOT / 'README.md', *ROOT.glob('docs/*.md')]):
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
      if match := MARK.match(line):
        table = next(line for line in lines[number + 1 :] if line)
        yield f'{path.relative_to(ROOT)}:{number + 1}', table, match[1].split(), match[2]


def _code(source):
  """The lines of a Python file without comments, docstrings and blank lines."""
  lines = source.splitlines()
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
      lines[node.lineno - 1 : node.end_lineno] = [''] * (node.end_lineno - node.lineno + 1)
  return [line.rstrip() for line in lines if line.strip()]


def _digest(names):
  digest = hashlib.sha256()
  for path in [ROOT / name for name in names]:
    for file in sorted(path.rglob('*.py')) if path.is_dir() else [path]:
      digest.update('\n'.join([str(file.relative_to(ROOT)), *_code(file.read_text())]).encode())
  return digest.hexdigest()[:12]


@pytest.mark.parametrize(('place', 'table', 'names', 'digest'), list(_measured()))
def test_figures_are_as_new_as_the_code(place, table, names, digest):
  assert _digest(names) == digest, (
    f'{place}: code in {", ".join(names)} has changed since the figures under "{table}" were '
    'measured. Measure them again, or make sure that the change cannot affect them. '
    f'Then write: @ {_digest(names)}'
  )


def test_the_main_tables_name_their_code():
  assert {'docs/running.md', 'docs/own_data.md'} <= {
    place.split(':')[0] for place, *_ in _measured()
  }


def test_only_code_counts():
  plain = 'def f(x):\n  return x + 1\n'
  assert _code('"""What it is."""\n\n' + plain.replace(' + 1', ' + 1  # why')) == _code(plain)
  assert _code(plain.replace('+ 1', '+ 2')) != _code(plain)
