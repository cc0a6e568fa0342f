"""Writing pages and tables: a user's own file is kept, and a bad folder is a one-line error."""

import pytest

from luab_jax.errors import UserError
from luab_jax.report import html
from luab_jax.tools.study import output


def _write(path, title):
  return html.write(path, title=title, subtitle='', sections=[]).read_text()


def test_a_page_replaces_its_own_kind_alone(tmp_path):
  path = tmp_path / 'run/report.html'
  assert 'first' in _write(path, 'first') and 'second' in _write(path, 'second')
  path.write_text('<h1>my own report</h1>')
  with pytest.raises(UserError, match='report.html was not written by luab_jax: move it away'):
    _write(path, 'third')
  assert path.read_text() == '<h1>my own report</h1>'


def test_a_study_that_cannot_be_written(tmp_path):
  with pytest.raises(UserError, match='absent cannot be written .*No such file'):
    output.write({'sweeps': {}}, tmp_path / 'absent')
