"""Plots of a study: means with their intervals, a panel for each split."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from luab_jax.report.style import BACKGROUND, GRID, PALETTE, TEXT
from luab_jax.tools.study import metrics
from luab_jax.tools.study.intervals import Interval

_COLUMNS = 4  # panels side by side
_MARKERS = 'osD^vPX<>*h'
_SWEEP_LABELS = {
  'data_fractions': 'training images used (%)',
  'byproduct_fractions': 'images with byproducts (%)',
}


def metric_names(result: Mapping[str, Any]) -> list[str]:
  """Names of the metrics of any arm, without their splits."""
  found = metrics.sort(name for arm in result['arms'].values() for name in arm['metrics'])
  names = (metrics.split_and_name(m)[1] for m in found if not metrics.is_constant(m))
  return list(dict.fromkeys(names))


def plot_arms(result: Mapping[str, Any], names: Sequence[str], split: str = '') -> Figure:
  """Plots the arms as rows: mean, interval, and a tick for every seed.

  Args:
    result: as returned by `study.run_study`.
    names: names of metrics; each gets one or more rows of panels, with a panel for each split.
    split: only this one; '' for all.
  """
  found: dict[str, list[str]] = {name: [] for name in names}
  for metric in metrics.sort(m for arm in result['arms'].values() for m in arm['metrics']):
    if split in ('', metrics.split_and_name(metric)[0]):
      found.get(metrics.split_and_name(metric)[1], []).append(metric)
  columns = min(max(map(len, found.values())), _COLUMNS)
  rows = [-(-len(of_name) // columns) for of_name in found.values()]
  height = 0.8 + 0.2 * len(result['arms'])
  figure = _figure(1.6 + max(2.5 * columns, 3.8), height * sum(rows))
  parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
  for part, number, (name, of_name) in zip(parts, rows, found.items(), strict=True):
    panels = _panels(part, number, columns)
    part.suptitle(
      metrics.describe_name(name), x=0.01, ha='left', color=TEXT, fontsize=11, weight='bold'
    )
    for place, metric in enumerate(of_name):
      axes = panels.flat[place]
      _prepare(axes, metric, title=metrics.split_and_name(metric)[0], value_axis='x')
      for position, arm in enumerate(result['arms'].values()):
        if metric in arm['metrics']:
          _plot_arm(axes, arm, metric, position)
      _mark_constants(axes, result, metric)
      _limit(axes, metric, 'x')
      _name_rows(axes, list(result['arms']), shown=not place % columns)
  return figure


def _mark_constants(axes: Axes, result: Mapping[str, Any], metric: str) -> None:
  """Lines at the click errors of constant predictions."""
  split, name = metrics.split_and_name(metric)
  for (constant, words), style in zip(metrics.CONSTANTS.items(), ('--', ':'), strict=True):
    values = [arm['metrics'].get(f'{split}/{constant}') for arm in result['arms'].values()]
    if name == 'click_error' and (value := next(filter(None, values), None)):
      axes.axvline(value.mean, color=TEXT, linestyle=style, linewidth=1.2, label=words)
      axes.legend(
        fontsize=8.5,
        frameon=False,
        labelcolor=TEXT,
        ncols=2,
        loc='upper center',
        bbox_to_anchor=(0.5, 0),
        borderaxespad=2.4,  # below the ticks
      )


def plot_differences(result: Mapping[str, Any], metric: str) -> Figure:
  """Plots the differences of a metric between arms as rows, with a line at 0.

  Args:
    result: as returned by `study.run_study`.
    metric: a metric of at least one comparison.
  """
  values = {
    f'{pair["arm"]} − {pair["reference"]}': pair['metrics'][metric]
    for pair in result['comparisons']
    if metric in pair['metrics']
  }
  scale = _scale(metric)
  figure = _figure(6.2, 0.8 + 0.24 * len(values))
  axes = _panels(figure, 1, 1)[0, 0]
  _prepare(axes, metric, title=f'Difference in {metrics.describe(metric)}', value_axis='x')
  axes.axvline(0, color=TEXT, linewidth=1)
  for position, value in enumerate(values.values()):
    colour = PALETTE[0] if value.excludes_zero() else '#8a8f94'
    _plot_value(axes, value, scale, position, colour)
  _name_rows(axes, list(values), shown=True)
  return figure


def _name_rows(axes: Axes, names: Sequence[str], *, shown: bool) -> None:
  axes.set_yticks(range(len(names)), names if shown else [''] * len(names))
  axes.set_ylim(len(names) - 0.4, -0.6)


def _plot_arm(axes: Axes, arm: Mapping[str, Any], metric: str, position: int) -> None:
  scale = _scale(metric)
  colour = PALETTE[position % len(PALETTE)]
  seeds = [run[metric] * scale for run in arm['runs'].values() if metric in run]
  axes.plot(seeds, [position + 0.28] * len(seeds), '|', color=colour, alpha=0.7, markersize=5)
  _plot_value(axes, arm['metrics'][metric], scale, position, colour)


def _plot_value(axes: Axes, value: Interval, scale: float, position: int, colour: str) -> None:
  axes.errorbar(
    value.mean * scale,
    position,
    xerr=_errors([value], scale),
    fmt='o',
    color=colour,
    markersize=4.5,
    capsize=3,
  )


def plot_sweep(result: Mapping[str, Any], name: str) -> Figure:
  """Plots accuracy and click error against a fraction of the images, with a line for each arm.

  Args:
    result: as returned by `study.run_study`.
    name: name of a sweep in it.
  """
  sweep = result['sweeps'][name]
  found = metrics.sort(
    metric
    for values in sweep['arms'].values()
    for value in values
    for metric in value
    if metrics.is_primary(metric) and not metrics.is_constant(metric)
  )
  columns = min(max(len(found), 1), 3)
  rows = -(-len(found) // columns) or 1
  figure = _figure(3.4 * columns + 0.6, 3.0 * rows + 0.5)
  panels = _panels(figure, rows, columns)
  styles = dict(zip(result['arms'], zip(PALETTE + PALETTE, _MARKERS, strict=False), strict=False))
  for axes, metric in zip(panels.flat, found, strict=False):
    _prepare(axes, metric, title=metrics.describe(metric), value_axis='y')
    axes.set_xlabel(_SWEEP_LABELS[name], color=TEXT, fontsize=9)
    for arm, values in sweep['arms'].items():
      points = zip(sweep['values'], values, strict=True)
      known = [(100 * fraction, value[metric]) for fraction, value in points if metric in value]
      if known:
        _plot_line(axes, arm, known, _scale(metric), *styles[arm])
    _limit(axes, metric, 'y')
  handles, labels = panels.flat[0].get_legend_handles_labels()
  figure.legend(
    handles, labels, loc='outside upper center', ncols=columns, frameon=False, labelcolor=TEXT
  )
  return figure


def _plot_line(
  axes: Axes, arm: str, points: list[tuple[float, Interval]], scale: float, colour: str, marker: str
) -> None:
  axes.errorbar(
    [percent for percent, _ in points],
    [value.mean * scale for _, value in points],
    yerr=_errors((value for _, value in points), scale),
    color=colour,
    marker=marker,
    markersize=5,
    capsize=3,
    label=arm,
  )


def _errors(values: Iterable[Interval], scale: float) -> np.ndarray:
  """f64[2,N]: distances from the mean to the ends, 0 without an interval."""
  return np.transpose(
    [
      (0.0, 0.0)
      if value.low is None or value.high is None
      else ((value.mean - value.low) * scale, (value.high - value.mean) * scale)
      for value in values
    ]
  )


def _scale(metric: str) -> float:
  return 100 if metrics.is_percentage(metric) else 1


def _limit(axes: Axes, metric: str, value_axis: Literal['x', 'y']) -> None:
  """Keeps the value axis within the possible values: from 0, up to 100 % for a percentage."""
  low, high = axes.get_xlim() if value_axis == 'x' else axes.get_ylim()
  high = min(high, 100) if metrics.is_percentage(metric) else high
  (axes.set_xlim if value_axis == 'x' else axes.set_ylim)(max(low, 0), high)


def _figure(width: float, height: float) -> Figure:
  return Figure(figsize=(width, height), dpi=130, layout='constrained', facecolor=BACKGROUND)


def _panels(figure: Figure | SubFigure, rows: int, columns: int) -> np.ndarray:
  panels = figure.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_axis_off()  # until something is drawn
  return panels


def _prepare(axes: Axes, metric: str, *, title: str, value_axis: Literal['x', 'y']) -> None:
  axes.set_axis_on()
  axes.set_facecolor(BACKGROUND)
  unit = ' (%)' if metrics.is_percentage(metric) else ' (ms)' * (metric == metrics.COST)
  axes.set_title(title + unit, color=TEXT, fontsize=9.5, parse_math=False)
  axes.grid(axis=value_axis, color=GRID)
  axes.set_axisbelow(True)
  axes.tick_params(colors=TEXT, labelsize=8.5)
  for side, spine in axes.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(TEXT)
