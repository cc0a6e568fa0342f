"""What a study leaves: study.json, study.md and its plots."""

import json

import jax

from luab_jax.tools.study import plots, statistics

_READ = """Mean over {n} seed{s} ± half the width of its {level} interval (Student's t){unknown}.
All figures but the cost are in %, click errors in % of the crop's side. Differences are taken seed
by seed; "includes 0" means that the seeds do not tell the two apart. The intervals are not
corrected for the number of comparisons. "–": not measured or, as the click error of the baseline,
without meaning. The cost is the median over a run's log intervals, data included.
"""
_TITLES = {
  'data_fractions': ('Share of the training images', 'the same number of steps for all'),
  'byproduct_fractions': ('Share of the images with byproducts', 'all images for all'),
}


def write(result, workdir):
  """Writes the files of a study and prints what came out.

  Args:
    result: of `study.run_study`, with comparison.Interval objects.
    workdir: pathlib.Path.
  """
  content = json.dumps(result, indent=2, default=statistics.Interval.as_dict)
  (workdir / 'study.json').write_text(content + '\n', encoding='utf-8')
  (workdir / 'study.md').write_text(markdown(result), encoding='utf-8')
  plots.save(plots.arms(result), workdir / 'study.png')
  for sweep in result['sweeps']:
    plots.save(plots.sweep(result, sweep), workdir / f'{sweep}.png')
  print(_figures(result))
  print(f'Differences, intervals, plots: {workdir}/study.md, study.json, study.png')


def _figures(result):
  columns = {name: arm['figures'] for name, arm in result['arms'].items()}
  return statistics.table(columns, n=len(result['seeds']))


def markdown(result) -> str:
  """The study as a page of Markdown."""
  n = len(result['seeds'])
  arms = result['arms']
  lines = [
    f'# Does LUAB help? {result["model"]} on {result["data"]}',
    '',
    f'{result["images"]:,} training images, {result["total_steps"]:,} steps of '
    f'{result["batch_size"]}, seeds {", ".join(map(str, result["seeds"]))}; '
    f'{", ".join(result["machines"])}, JAX {jax.__version__}.',
    '',
    *(
      f'- **{name}**: {arm["says"]}' + f', λ = {arm["point_weight"]:g}' * (arm['point_weight'] > 0)
      for name, arm in arms.items()
    ),
    '',
    _READ.format(
      n=n,
      s='s' * (n > 1),
      level=f'{100 * statistics.CONFIDENCE:g} %',
      unknown='; a single seed has none' * (n == 1),
    ),
  ]
  if result['icon_label'] == 'drop_when_icon_cropped':
    lines.append(
      'In all arms a class loses its label when the crop loses its icon (`data.icon_label`), in '
      'the controls by the icons of the control: the baseline is not free of byproducts.\n'
    )
  differences = {
    name: arm['difference_to_baseline'] for name, arm in arms.items() if name != 'baseline'
  }
  minus = {f'minus {other}': d for other, d in result['luab_spatial_minus'].items()}
  lines += [
    '## Figures',
    '',
    _figures(result),
    '## Difference to the baseline',
    '',
    statistics.table(differences, n=n, signed=True),
    '## What the clicks add under the spatial head: luab_spatial',
    '',
    statistics.table(minus, n=n, signed=True),
  ]
  for sweep in result['sweeps']:
    lines += _sweep(result, sweep)
  return '\n'.join(lines)


def _sweep(result, name):
  sweep, n = result['sweeps'][name], len(result['seeds'])
  headings = [f'{100 * value:g} %' for value in sweep['values']]
  title, fixed = _TITLES[name]
  lines = [f'## {title}', '', f'Here {fixed}.', '']
  for arm, values in sweep['arms'].items():
    lines += [f'### {arm}', '', _primary_table(headings, values, n=n)]
  for arm, values in sweep['gain'].items():
    lines += [
      f'### {arm}: difference to the same head without clicks',
      '',
      _primary_table(headings, values, n=n, signed=True),
    ]
  return lines


def _primary_table(headings, values, *, n, signed=False):
  columns = {
    heading: {k: v for k, v in figures.items() if statistics.is_primary(k)}
    for heading, figures in zip(headings, values, strict=True)
  }
  return statistics.table(columns, n=n, signed=signed)
