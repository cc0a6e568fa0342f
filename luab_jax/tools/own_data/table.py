"""Reads a user's CSV: the separators, numbers and times that spreadsheets and scripts write."""

import csv
import datetime
import io
import math
import pathlib
import re
from typing import NamedTuple

from luab_jax.errors import UserError

# Cannot be a thousands separator: 10,5 and 0,125, but not 1,234.
_DECIMAL_COMMA = re.compile(r'[+-]?(\d*,(\d{1,2}|\d{4,})|0*,\d+)(e[+-]?\d+)?', re.I)
_DECIMAL_POINT = re.compile(r'[+-]?\d*\.\d*(e[+-]?\d+)?', re.I)
_UTF16 = (b'\xff\xfe', b'\xfe\xff')  # as in Excel's "Unicode text"
_MAX_TIME = 1 << 53  # ms; exact in a double
# Seconds, microseconds and nanoseconds since 1970, from 2001 on: (lowest value, ms in one).
_EPOCH_UNITS = ((1e9, 1e3), (1e15, 1e-3), (1e18, 1e-6))


class Row(NamedTuple):
  """One row."""

  where: str  # file and line, for messages
  cells: dict[str, str]  # {requested column: text without surrounding white space}
  problem: str  # '' or why it cannot be read
  decimal_comma: bool  # whether the file uses one

  def number(self, column: str) -> float:
    """Returns the finite number of a column; raises ValueError with its text."""
    text = self.cells[column]
    try:
      number = float(text.replace(',', '.') if self.decimal_comma else text)
    except ValueError:
      number = math.nan
    if not math.isfinite(number):
      raise ValueError(f'{column} is {text!r:.80}, not a number' if text else f'{column} is empty')
    return number


def read(path: pathlib.Path, required: list[str], *optional: str) -> list[Row]:
  """Reads a file, see `parse`; also raises UserError if it cannot be read."""
  try:
    data = path.read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error
  return parse(path, data, required, *optional)


def parse(path: pathlib.Path, data: bytes, required: list[str], *optional: str) -> list[Row]:
  """Reads a table whose first line names the columns, in any order; others are ignored.

  The separator is a comma, a semicolon or a tab. Numbers may use a decimal comma if none uses a
  point.

  Args:
    path: the CSV, for messages.
    data: its content, UTF-8 or UTF-16 with a byte order mark.
    required: columns that it must have.
    optional: columns that it may have.

  Raises:
    UserError: it is not a CSV, or its first line lacks a column.
  """
  try:
    file = io.StringIO(
      data.decode('utf-16' if data.startswith(_UTF16) else 'utf-8-sig'), newline=''
    )
    head, line = file.readline(), 1
    if head.lower().startswith('sep='):  # Excel's
      head, line = file.readline(), 2
    may = ''.join(f'[,{name}]' for name in optional)
    wanted = f'the first line must name the columns {",".join(required)}{may}'
    if not head.strip():
      raise UserError(f'{path} is empty, or its first line is: {wanted}')
    separator = max(',;\t', key=head.count)
    reader = csv.reader([head], delimiter=separator, skipinitialspace=True)
    columns = [name.strip().lower() for name in next(reader)]
    if wrong := [name for name in required if columns.count(name) != 1]:
      raise UserError(
        f'{path}: {wanted}, each once; {wrong[0]} is missing or repeated in {head.strip()!r:.80}'
      )
    reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
    rows = [
      _row(f'{path}:{line + reader.line_num}', cells, columns, [*required, *optional])
      for cells in reader
      if any(map(str.strip, cells))
    ]
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f'{path} is not a CSV in UTF-8 ({error}): save it as "CSV UTF-8"') from error
  numbers = [row.cells.get(column, '') for row in rows for column in ('x', 'y', 'time')]
  comma = any(map(_DECIMAL_COMMA.fullmatch, numbers)) and not any(
    _DECIMAL_POINT.fullmatch(row.cells[column]) for row in rows for column in ('x', 'y')
  )
  return [row._replace(decimal_comma=comma) for row in rows]


def _row(where: str, cells: list[str], columns: list[str], wanted: list[str]) -> Row:
  problem, cells = '', [cell.strip() for cell in cells]
  if any(cells[len(columns) :]):
    problem = f'{len(cells)} cells below {len(columns)} columns: a comma inside a cell needs quotes'
  cells += [''] * (len(columns) - len(cells))  # of a short row: reported as empty
  named = zip(columns, cells, strict=False)
  return Row(where, {column: cell for column, cell in named if column in wanted}, problem, False)


def parse_times(rows: list[Row]) -> list[float | str]:
  """Returns the time of each row in ms, or why it has none.

  The column `time` may hold milliseconds, ISO 8601 dates (UTC unless they name a time zone), or
  seconds, microseconds or nanoseconds since 1970. If it is missing or empty, the order of the rows
  is the order of time.
  """
  if not any(row.cells.get('time') for row in rows):
    return [float(number) for number in range(len(rows))]
  times = [_parse_time(row) for row in rows]
  known = [time for time in times if isinstance(time, float)]
  for first, factor in _EPOCH_UNITS:
    if known and all(first <= time < 10 * first for time in known):
      times = [time if isinstance(time, str) else time * factor for time in times]
      break
  return [
    f'time {time:g} is too large' if isinstance(time, float) and abs(time) > _MAX_TIME else time
    for time in times
  ]


def _parse_time(row: Row) -> float | str:
  text = row.cells['time']
  try:
    return row.number('time')
  except ValueError as error:
    reason = str(error)
  try:
    moment = datetime.datetime.fromisoformat(text)
  except ValueError:
    return f'{reason} or an ISO 8601 date' if text else reason
  if moment.tzinfo is None:
    moment = moment.replace(tzinfo=datetime.UTC)
  return moment.timestamp() * 1000
