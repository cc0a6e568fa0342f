"""The tables of a study, for its Markdown and its HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from luab_jax.report.html import Table
from luab_jax.tools.study import metrics
from luab_jax.tools.study.intervals import Interval

_COLUMNS = 4  # at most, in a table with several splits
SWEEP_TITLES = {
  'data_fractions': ('Fraction of the training images', 'All runs take the same number of steps.'),
  'byproduct_fractions': (
    'Fraction of the images with byproducts',
    'All runs are trained on all images.',
  ),
}


def metric_tables(result: Mapping[str, Any]) -> dict[str, list[Table]]:
  """{heading from metrics.GROUPS: tables with a row for each arm}; wide ones per split."""
  arms = {name: arm['metrics'] for name, arm in result['arms'].items()}
  names = [name for name in _names(arms.values()) if not metrics.is_constant(name)]
  found: dict[str, list[Table]] = {}
  for title in metrics.GROUPS:
    chosen = [name for name in names if metrics.group(name) == title]
    several = len({metrics.split_and_name(name)[1] for name in chosen}) > 1
    by_split = several and len(chosen) > _COLUMNS
    for split in dict.fromkeys(map(_split, chosen)) if by_split else ('',):
      columns = [name for name in chosen if split in ('', _split(name))]
      if columns:
        rows = arms | (_constants(arms) if title == metrics.PLACE else {})
        table = _table(rows, columns, caption=split, seeds=len(result['seeds']))
        found.setdefault(title, []).append(table)
  return found


def _constants(arms: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Interval]]:
  """{'always the centre': {'<split>/click_error': …}}: rows below those of the arms."""
  return {
    words: {
      f'{_split(metric)}/click_error': value
      for values in arms.values()
      for metric, value in values.items()
      if metric.endswith(f'/{constant}')
    }
    for constant, words in metrics.CONSTANTS.items()
  }


def difference_tables(result: Mapping[str, Any]) -> dict[str, Table]:
  """{question: table} with a row for each pair of arms; accuracy and click error."""
  rows: dict[str, dict[str, Mapping[str, Interval]]] = {}
  for comparison in result['comparisons']:
    name = f'{comparison["arm"]} − {comparison["reference"]}'
    rows.setdefault(comparison['question'], {})[name] = _primary(comparison['metrics'])
  return {
    question: _table(pairs, _names(pairs.values()), seeds=len(result['seeds']), signed=True)
    for question, pairs in rows.items()
  }


def sweep_tables(result: Mapping[str, Any], sweep: str) -> list[Table]:
  """A table for each arm of a sweep, and for its gain over the same head without clicks."""
  values = result['sweeps'][sweep]['values']
  tables = []
  for key, title in (('arms', '{}'), ('gain', '{}: difference from no clicks')):
    for arm, columns in result['sweeps'][sweep][key].items():
      rows = dict(zip((f'{100 * v:g} %' for v in values), map(_primary, columns), strict=True))
      tables.append(
        _table(
          rows,
          _names(rows.values()),
          caption=title.format(arm),
          seeds=len(result['seeds']),
          signed=key == 'gain',
        )
      )
  return tables


def _table(
  rows: Mapping[str, Mapping[str, Interval]],
  columns: Sequence[str],
  *,
  caption: str = '',
  seeds: int,
  signed: bool = False,
) -> Table:
  """A table of {heading of a row: {metric: Interval}}, with a column for each metric."""
  describe = metrics.describe if not caption or caption not in map(_split, columns) else _no_split
  return Table(
    ['', *(describe(name) + _unit(name, signed) for name in columns)],
    [
      [
        heading,
        *(
          metrics.format_interval(name, values.get(name), signed=signed, seeds=seeds)
          for name in columns
        ),
      ]
      for heading, values in rows.items()
    ],
    caption,
    numbers=True,
  )


def _names(rows: Iterable[Mapping[str, Interval]]) -> list[str]:
  return metrics.sort(name for row in rows for name in row)


def _split(metric: str) -> str:
  return metrics.split_and_name(metric)[0]


def _no_split(metric: str) -> str:
  return metrics.describe_name(metrics.split_and_name(metric)[1])


def _unit(metric: str, signed: bool) -> str:
  if not metrics.is_percentage(metric):
    return ''
  return ' (points)' if signed else ' (%)'


def _primary(values: Mapping[str, Interval]) -> dict[str, Interval]:
  return {
    name: value
    for name, value in values.items()
    if metrics.is_primary(name) and not metrics.is_constant(name)
  }


def to_markdown(table: Table) -> str:
  """A Markdown table, without its caption."""
  lines = ['| ' + ' | '.join(table.head) + ' |', '|---' * len(table.head) + '|']
  lines += ['| ' + ' | '.join(row) + ' |' for row in table.rows]
  return '\n'.join(lines) + '\n'
