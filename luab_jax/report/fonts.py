"""Chooses installed fonts that can show class names in any script."""

import functools
import warnings
from collections.abc import Iterable

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

# {family: code points} of the fonts chosen so far; characters that no installed font has.
_chosen: dict[str, frozenset[int]] = {}
_missing: set[str] = set()


def use_installed_fonts(figure: Figure) -> None:
  """Adds fallback fonts to the texts of a figure with characters that the default font lacks.

  Characters that no installed font has are drawn as boxes; one line says so, once per process.
  """
  lacking = {text: _lacking(text.get_text()) for text in figure.findobj(Text)}
  _choose(set().union(*lacking.values()))
  for text, characters in lacking.items():
    if characters:
      text.set_fontfamily([*font_manager.FontProperties().get_family(), *_chosen])


def _lacking(text: str) -> set[str]:
  """The characters that the default font lacks."""
  return {char for char in text if char.isprintable() and ord(char) not in _default_font()}


def _choose(characters: Iterable[str]) -> None:
  """Adds fonts with these characters to `_chosen`, the one with most of them first."""
  rest = set(characters) - _missing
  rest -= {char for char in rest for font in _chosen.values() if ord(char) in font}
  if not rest:
    return
  found = []
  for entry in _fonts():
    points = _code_points(entry)
    found.append((entry, {char for char in rest if ord(char) in points}))
  while rest:
    best, characters = max(found, key=lambda pair: len(pair[1] & rest))
    if not characters & rest:
      break
    _chosen[best.name] = _code_points(best)
    rest -= characters
  if rest and not _missing:
    print(
      f'no installed font has {"".join(sorted(rest))[:20]}: images show boxes in their place; '
      'install one, such as Noto Sans CJK for Chinese, Japanese and Korean',
      flush=True,
    )
    warnings.filterwarnings('ignore', message=r'Glyph \d+ .*missing from')
  _missing.update(rest)


@functools.cache
def _default_font() -> frozenset[int]:
  path = font_manager.findfont(font_manager.FontProperties())
  return frozenset(font_manager.get_font(path).get_charmap())


@functools.cache
def _fonts() -> list[font_manager.FontEntry]:
  """The installed upright faces, including those newer than matplotlib's cache; regular first."""
  manager = font_manager.fontManager
  for path in set(font_manager.findSystemFonts()) - {entry.fname for entry in manager.ttflist}:
    try:
      manager.addfont(path)
    except (OSError, RuntimeError, ValueError):  # damaged, or a bitmap font (emoji)
      continue
  # The fonts called Last Resort have a box for every character.
  upright = [
    entry
    for entry in manager.ttflist
    if entry.style == 'normal' and not entry.name.startswith('Last Resort')
  ]
  return sorted(upright, key=lambda entry: abs(int(entry.weight) - 400))


def _code_points(entry: font_manager.FontEntry) -> frozenset[int]:
  try:
    face = font_manager.FontPath(entry.fname, entry.index)
    return frozenset(font_manager.get_font(face).get_charmap())
  except (OSError, RuntimeError, ValueError):
    return frozenset()
