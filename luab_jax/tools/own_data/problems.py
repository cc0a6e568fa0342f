"""The report of a conversion: counts that add up, and every problem by name."""

import csv
import pathlib
from typing import TextIO

_EXAMPLES = 3  # shown for each kind of problem; problems.csv lists all
_MAX_CLASSES = 30  # rows of the table on the screen


class Problems:
  """Counts what is read, written and skipped; writes each problem to problems.csv as it occurs.

  Each kind of count or problem starts with a singular noun, as in 'image unreadable, skipped', so
  that it can be printed with any number.
  """

  def __init__(self, file: TextIO) -> None:
    """`file`: problems.csv, open for writing."""
    self._writer = csv.writer(file)
    self._writer.writerow(('problem', 'where', 'detail'))
    self._counts: dict[str, int] = {}
    self._problems: dict[str, int] = {}
    self._examples: dict[str, list[str]] = {}

  def count(self, kind: str, amount: int = 1) -> None:
    """Adds to a count; a count of zero is not printed."""
    if amount:
      self._counts[kind] = self._counts.get(kind, 0) + amount

  def add(self, kind: str, where: str, detail: object = '') -> None:
    """Records one problem.

    Args:
      kind: one of a few, such as 'image unreadable, skipped'.
      where: the file, or file and line.
      detail: what is wrong with this one.
    """
    self._problems[kind] = self._problems.get(kind, 0) + 1
    self._examples.setdefault(kind, [])
    if len(self._examples[kind]) < _EXAMPLES:
      self._examples[kind].append(f'{where}: {detail}' if detail else where)
    self._writer.writerow((kind, where, detail))

  def number(self, kind: str) -> int:
    """Returns how often a kind was counted or added as a problem."""
    return self._counts.get(kind, 0) + self._problems.get(kind, 0)

  def first(self, noun: str) -> str:
    """Returns the first problem with a noun, such as 'click', for the end of an error message."""
    for kind, examples in self._examples.items():
      if kind.startswith(f'{noun} '):
        return f'; the first problem: {kind}: {examples[0]:.200}'
    return ''

  def format(self, path: pathlib.Path) -> list[str]:
    """Returns the counts and problems as lines; `path`: where problems.csv is."""
    lines = [_format_count(number, kind) for kind, number in self._counts.items()]
    if not self._problems:
      return [*lines, 'No problems found.']
    lines.append(f'Problems (all in {path}):')
    for kind, number in self._problems.items():
      lines.append(_format_count(number, kind))
      lines += [f'{"":13}{line:.160}' for line in self._examples[kind]]
      if number > _EXAMPLES:
        lines.append(f'{"":13}…')
    return lines


def _format_count(number: int, kind: str) -> str:
  noun, _, rest = kind.partition(' ')
  return f'  {number:>9,}  {pluralize(number, noun)} {rest}'


def pluralize(number: int, noun: str) -> str:
  """Returns the form of a noun that goes with a number."""
  if number == 1:
    return noun
  return noun + ('es' if noun.endswith('s') else 's')


def format_class_table(rows: dict[str, list[int]], heads: tuple[str, ...]) -> list[str]:
  """Returns the lines of a table with one row per class, from {class: a number per column}."""
  width = max(map(len, ['class', *rows]))
  sizes = [max(len(head), 7) for head in heads]
  cells = [('class', heads), *((name, [f'{n:,}' for n in row]) for name, row in rows.items())]
  return [
    f'  {name:<{width}}' + ''.join(f'  {c:>{size}}' for c, size in zip(row, sizes, strict=True))
    for name, row in cells
  ]


def shorten_table(table: list[str]) -> list[str]:
  """Cuts a table of many classes for the screen."""
  hidden = len(table) - 1 - _MAX_CLASSES
  if hidden <= 0:
    return table
  return [
    *table[: 1 + _MAX_CLASSES],
    f'  … and {hidden} more {pluralize(hidden, "class")}, see README.txt',
  ]
