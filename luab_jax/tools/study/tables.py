"""Output of a study: study.json, study.md and its plots."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from luab_jax.errors import UserError
from luab_jax.tools.study import plots, statistics
from luab_jax.tools.study.statistics import Interval

_NOTES = """\
Mean over {n} seed{s} ± half-width of its {level} confidence interval (Student's t){unknown}. All
metrics but the cost are in %, click errors in % of the crop side. Differences are paired by seed;
"includes 0": not significant at this level. The intervals are not corrected for multiple
comparisons. "–": not measured or, like the click error of the baseline, meaningless. The cost is
the median over the log intervals of a run, including data loading.
"""
_SWEEP_TITLES = {
  'data_fractions': ('Fraction of the training images', 'All runs take the same number of steps.'),
  'byproduct_fractions': (
    'Fraction of the images with byproducts',
    'All runs are trained on all images.',
  ),
}


def write(result: Mapping[str, Any], workdir: pathlib.Path) -> None:
  """Writes the files of a study and prints its main table.

  Args:
    result: of `study.run_study`, with statistics.Interval objects.
    workdir: folder of the study.

  Raises:
    UserError: the folder cannot be written.
  """
  content = json.dumps(result, indent=2, default=Interval.as_dict)
  try:
    (workdir / 'study.json').write_text(content + '\n', encoding='utf-8')
    (workdir / 'study.md').write_text(format_markdown(result), encoding='utf-8')
    plots.plot_arms(result).savefig(workdir / 'study.png')
    for sweep in result['sweeps']:
      plots.plot_sweep(result, sweep).savefig(workdir / f'{sweep}.png')
  except OSError as error:
    raise UserError(
      f'{workdir} cannot be written ({error}): make room or fix it, and start the study again'
    ) from error
  print(_arms_table(result))
  print(f'Differences, intervals, plots: {workdir}/study.md, study.json, study.png')


def _arms_table(result: Mapping[str, Any]) -> str:
  columns = {name: arm['metrics'] for name, arm in result['arms'].items()}
  return statistics.format_table(columns, n=len(result['seeds']))


def format_markdown(result: Mapping[str, Any]) -> str:
  """The study as a Markdown page; see `write`."""
  n, arms = len(result['seeds']), result['arms']
  differences = {
    name: arm['difference_to_baseline'] for name, arm in arms.items() if name != 'baseline'
  }
  minus = {f'minus {other}': d for other, d in result['luab_spatial_minus'].items()}
  lines = [
    *_header(result),
    '## Metrics',
    '',
    _arms_table(result),
    '## Difference to the baseline',
    '',
    statistics.format_table(differences, n=n, signed=True),
    '## Gain from the clicks with the spatial head: luab_spatial',
    '',
    statistics.format_table(minus, n=n, signed=True),
  ]
  for sweep in result['sweeps']:
    lines += _sweep_tables(result, sweep)
  return '\n'.join(lines)


def _header(result: Mapping[str, Any]) -> list[str]:
  n = len(result['seeds'])
  lines = [
    f'# Does LUAB help? {result["model"]} on {result["data"]}',
    '',
    f'{result["images"]:,} training images, {result["total_steps"]:,} steps with batch size '
    f'{result["batch_size"]}, seeds {", ".join(map(str, result["seeds"]))}; '
    f'{", ".join(result["machines"])}, JAX {jax.__version__}.',
    '',
  ]
  for name, arm in result['arms'].items():
    weight = f', λ = {arm["point_weight"]:g}' if arm['point_weight'] else ''
    lines.append(f'- **{name}**: {arm["description"]}{weight}')
  lines += [
    '',
    _NOTES.format(
      n=n,
      s='s' * (n > 1),
      level=f'{statistics.CONFIDENCE:.0%}',
      unknown='; a single seed has none' * (n == 1),
    ),
  ]
  if result['icon_label'] == 'drop_when_icon_cropped':
    lines.append(
      'In all arms a class loses its label when its icon is cropped away (`data.icon_label`), in '
      "the controls by the control's icons: the baseline is not free of byproducts.\n"
    )
  return lines


def _sweep_tables(result: Mapping[str, Any], name: str) -> list[str]:
  sweep, n = result['sweeps'][name], len(result['seeds'])
  headings = [f'{100 * value:g}%' for value in sweep['values']]
  title, constant = _SWEEP_TITLES[name]
  lines = [f'## {title}', '', constant, '']
  for arm, values in sweep['arms'].items():
    lines += [f'### {arm}', '', _primary_table(headings, values, n=n)]
  for arm, values in sweep['gain'].items():
    lines += [
      f'### {arm}: difference to the same head without clicks',
      '',
      _primary_table(headings, values, n=n, signed=True),
    ]
  return lines


def _primary_table(
  headings: Sequence[str], values: Sequence[Mapping[str, Interval]], *, n: int, signed: bool = False
) -> str:
  columns = {
    heading: {k: v for k, v in metrics.items() if statistics.is_primary(k)}
    for heading, metrics in zip(headings, values, strict=True)
  }
  return statistics.format_table(columns, n=n, signed=signed)
