"""Class names in any script: drawn if an installed font has the characters, else a note."""

import io
import warnings

import numpy as np
import PIL.Image
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from luab_jax.report import fonts, plots

SCRIPT = '\U0001d49e\U0001d4a2'  # of matplotlib's own fonts, only STIX has these
NOWHERE = '\U000130b8\U000130b9'  # hieroglyphs


@pytest.fixture(autouse=True)
def matplotlibs_own_fonts(monkeypatch):
  """Only matplotlib's own fonts, and none chosen yet."""
  own = [entry for entry in font_manager.fontManager.ttflist if 'mpl-data' in entry.fname]
  monkeypatch.setattr(font_manager.fontManager, 'ttflist', own)
  monkeypatch.setattr(font_manager, 'findSystemFonts', list)
  monkeypatch.setattr(fonts, '_chosen', {})
  monkeypatch.setattr(fonts, '_missing', set())
  fonts._fonts.cache_clear()
  yield
  fonts._fonts.cache_clear()


def drawn(label, family=None):
  """Pixels of a figure with a label, in the fonts of our pages or in those of `family`."""
  figure = plots.image(np.zeros((48, 48, 3), np.uint8), [plots.Mark(0.3, 0.5, label=label)])
  if family:
    for text in figure.axes[0].texts:
      text.set_fontfamily(family)
  else:
    fonts.use_installed_fonts(figure)
  file = io.BytesIO()
  figure.savefig(file, format='png')
  return np.asarray(PIL.Image.open(file))


def test_a_font_that_has_the_characters_is_used(capfd):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    image = drawn(SCRIPT)
    np.testing.assert_array_equal(image, drawn(SCRIPT, ['DejaVu Sans', 'STIXGeneral']))
    drawn('cat')
  assert list(fonts._chosen) == ['STIXGeneral'] and capfd.readouterr() == ('', '')


def test_one_line_where_no_font_has_them(capfd):
  with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter('always')
    for label in (NOWHERE, NOWHERE, f'{SCRIPT} {NOWHERE[0]}', '\U000130ba'):
      drawn(label)
  (line,) = capfd.readouterr().out.splitlines()
  assert line.startswith(f'no installed font has {NOWHERE}: images show boxes') and not warned


def test_names_of_the_default_font_and_line_breaks_keep_it():
  figure = Figure()
  text = figure.text(0, 0, 'Käfer, Жук\nα')
  before = text.get_fontfamily()
  fonts.use_installed_fonts(figure)
  assert text.get_fontfamily() == before and not fonts._chosen
