"""What a conversion tells its user: counts that add up, and every problem by name."""

import csv
import pathlib

_SHOWN_PROBLEMS = 3  # of a kind on the screen; problems.csv has all
_SHOWN_CLASSES = 30


class Report:
  """Counts what is read, written and left out, and writes each problem to problems.csv at once."""

  def __init__(self, file) -> None:
    """`file`: problems.csv, open for writing text."""
    self._writer = csv.writer(file)
    self._writer.writerow(('problem', 'where', 'detail'))
    self.counts: dict[str, int] = {}
    self.problems: dict[str, list] = {}  # kind -> [count, first lines]

  def count(self, what: str, amount: int = 1) -> None:
    """Adds to a count; those that were never asked for are not printed."""
    if amount:
      self.counts[what] = self.counts.get(what, 0) + amount

  def problem(self, kind: str, where: str, detail: object = '') -> None:
    """Counts one problem and writes it down.

    Args:
      kind: one of a few, such as 'unreadable image, left out'.
      where: the file, or file and line.
      detail: what is wrong with this one.
    """
    row = self.problems.setdefault(kind, [0, []])
    row[0] += 1
    if len(row[1]) < _SHOWN_PROBLEMS:
      row[1].append(f'{where}: {detail}' if detail else where)
    self._writer.writerow((kind, where, detail))

  def number(self, kind: str) -> int:
    """How many problems of a kind there are."""
    return self.problems.get(kind, (0,))[0]

  def lines(self, path: str | pathlib.Path) -> list[str]:
    """The counts and the problems; `path`: where all of these are."""
    lines = [f'  {number:>9,}  {what}' for what, number in self.counts.items()]
    if not self.problems:
      return [*lines, 'No problems found.']
    lines.append(f'Problems (all in {path}):')
    for kind, (number, first) in self.problems.items():
      lines.append(f'  {number:>9,}  {kind}')
      lines += [f'{"":13}{line:.160}' for line in first]
      if number > len(first):
        lines.append(f'{"":13}…')
    return lines


def class_table(rows: dict[str, list[int]], heads: tuple[str, ...]) -> list[str]:
  """Lines of a table with a row for each class, as {class: numbers under `heads`}."""
  width = max(map(len, ['class', *rows]))
  sizes = [max(len(head), 7) for head in heads]
  lines = [
    f'  {"class":<{width}}'
    + ''.join(f'  {head:>{size}}' for head, size in zip(heads, sizes, strict=True))
  ]
  for name, numbers in rows.items():
    lines.append(
      f'  {name:<{width}}'
      + ''.join(f'  {number:>{size},}' for number, size in zip(numbers, sizes, strict=True))
    )
  return lines


def shortened(table: list[str]) -> list[str]:
  """A table of many classes cut for the screen."""
  if len(table) <= _SHOWN_CLASSES + 1:
    return table
  left = len(table) - 1 - _SHOWN_CLASSES
  return [*table[: _SHOWN_CLASSES + 1], f'  … and {left} classes more, see README.txt']
