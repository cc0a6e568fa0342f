"""study.html: question, design, pictures, results and limits of a study on one page."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from luab_jax.report import html
from luab_jax.report.html import Section, Table
from luab_jax.tools.study import drawing, metrics, output, plots, tables

_CHARTS = (*metrics.PRIMARY, 'maxboxacc', 'epg')  # prefixes of the metrics that have a chart


def write(
  result: Mapping[str, Any],
  workdir: pathlib.Path,
  looks: Sequence[Sequence[html.Image]],
  split: str,
) -> pathlib.Path:
  """Writes `<workdir>/study.html` and returns its path.

  Args:
    result: as returned by `study.run_study`.
    workdir: folder of the study.
    looks: as returned by `looks.draw_looks`.
    split: the split that they show.
  Raises:
    UserError: the folder cannot be written.
  """
  return html.write(
    workdir / 'study.html',
    title=output.title(result),
    subtitle=output.question(result),
    tiles=[
      ('runs', f'{sum(len(arm["runs"]) for arm in result["arms"].values()):,}'),
      ('seeds', f'{len(result["seeds"])}'),
      ('training images', f'{result["images"]:,}'),
      ('steps', f'{result["total_steps"]:,}'),
    ],
    sections=[
      _glance(result),
      Section('What it shows', [], points=list(result['verdicts'].items())),
      _design(result),
      *([_looks(looks, split)] if looks else []),
      *_results(result),
      Section(
        'Differences',
        ['Pairs of arms; differences are paired by seed and image.'],
        tables=[
          Table(table.head, table.rows, asked, numbers=True)
          for asked, table in tables.difference_tables(result).items()
        ],
      ),
      *(_sweep(result, sweep) for sweep in result['sweeps']),
      Section('What it does not show', [], points=[('', output.limits(result))]),
    ],
  )


def _glance(result: Mapping[str, Any]) -> Section:
  """Accuracy and its differences on the split where the arms are least accurate."""
  split = output.hardest_split(result)
  charts = []
  for accuracy in metrics.ACCURACY:
    metric = f'{split}/{accuracy}'
    values = {
      a: arm['metrics'][metric] for a, arm in result['arms'].items() if metric in arm['metrics']
    }
    if values:
      levels = ', '.join(f'{a} {metrics.format_value(metric, v.mean)}' for a, v in values.items())
      charts.append(
        html.chart(
          plots.plot_arms(result, [accuracy], split), f'{metrics.describe(metric)} in %: {levels}'
        )
      )
    if any(metric in pair['metrics'] for pair in result['comparisons']):
      charts.append(
        html.chart(
          plots.plot_differences(result, metric),
          f'Differences in {metrics.describe(metric)} between arms, as in the tables below',
        )
      )
  text = (
    f'On {split}, where the arms are least accurate. Bars are 95 % intervals, ticks single seeds; '
    'grey bars cross 0: no evidence of a difference.'
  )
  return Section('At a glance', [*output.warnings(result), text], images=charts, layout='charts')


def _design(result: Mapping[str, Any]) -> Section:
  return Section(
    'Design',
    output.design(result),
    drawings=drawing.draw_arms(result),
    collapsed=[
      Table(
        ['arm', 'trained with'],
        [[name, output.describe_arm(arm)] for name, arm in result['arms'].items()],
        'The arms in words',
      )
    ],
  )


def _looks(looks: Sequence[Sequence[html.Image]], split: str) -> Section:
  return Section(
    'Where each arm looks',
    [
      f'The first images of {split}, not selected by result, and the map of each arm (first seed): '
      'the attention map of the spatial head, CAM of the linear head; brighter means more weight. '
      'Below: the predicted class, framed if wrong.'
    ],
    images=[image for row in looks for image in row],
    layout='rows',
    columns=len(looks[0]),
    legend=[('ring', 'recorded click, where there is one'), ('box', 'ground-truth box')],
  )


def _results(result: Mapping[str, Any]) -> list[Section]:
  sections: list[Section] = []
  for heading, found in tables.metric_tables(result).items():
    names = [
      name
      for name in plots.metric_names(result)
      if name.startswith(_CHARTS) and metrics.group(f'/{name}') == heading
    ]
    charts = [
      html.chart(plots.plot_arms(result, [name]), f'{metrics.describe_name(name)} of each arm')
      for name in names
    ]
    text = [] if sections else output.notes(result)
    if heading == metrics.MAPS:
      text.append(output.MAPS_NOTE)
    sections.append(Section(heading, text, tables=found, images=charts, layout='full'))
  return sections


def _sweep(result: Mapping[str, Any], sweep: str) -> Section:
  heading, constant = tables.SWEEP_TITLES[sweep]
  return Section(
    heading,
    [constant],
    tables=tables.sweep_tables(result, sweep),
    images=[html.chart(plots.plot_sweep(result, sweep), f'{heading}: accuracy and click error')],
    layout='charts',
  )
