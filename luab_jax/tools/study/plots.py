"""Plots of a study: means with their intervals, a panel for each metric."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from luab_jax.report.style import BACKGROUND, GRID, PALETTE, TEXT
from luab_jax.tools.study import statistics

# In the order of the arms.
_COLOURS = [PALETTE[i] for i in (6, 1, 0, 4, 3, 5)]
_MARKERS = 'osD^vP'
_SWEEP_LABELS = {
  'data_fractions': 'training images used (%)',
  'byproduct_fractions': 'images with byproducts (%)',
}


def plot_arms(result: Mapping[str, Any]) -> Figure:
  """A row for each metric, a panel for each split: mean, interval, and every seed.

  Args:
    result: of `study.run_study`.
  """
  names = list(result['arms'])
  rows: dict[str, list[str]] = {}
  for metric in statistics.sort_metrics(
    name for arm in result['arms'].values() for name in arm['metrics']
  ):
    rows.setdefault(metric.rpartition('/')[2], []).append(metric)
  figure, panels = _panels(len(rows), max(map(len, rows.values()), default=1), height=2.1)
  for line, metrics in zip(panels, rows.values(), strict=False):
    for axes, metric in zip(line, metrics, strict=False):
      _prepare(axes, metric, grid='x')
      for position, arm in enumerate(result['arms'].values()):
        if metric in arm['metrics']:
          _plot_arm(axes, arm, metric, position)
      axes.set_yticks(range(len(names)), names if axes is line[0] else [''] * len(names))
      axes.set_ylim(len(names) - 0.5, -0.5)
  n = len(result['seeds'])
  intervals = f'mean and 95% interval, {n} seeds (ticks: each seed)'
  figure.suptitle(
    f'{result["model"]} on {result["data"]}: '
    f'{intervals if n > 1 else "a single seed, no intervals"}',
    color=TEXT,
    fontsize=11,
  )
  return figure


def _plot_arm(axes: Axes, arm: Mapping[str, Any], metric: str, position: int) -> None:
  value, scale = arm['metrics'][metric], statistics.scale(metric)
  colour = _COLOURS[position % len(_COLOURS)]
  seeds = [run[metric] * scale for run in arm['runs'].values() if metric in run]
  axes.plot(seeds, [position + 0.25] * len(seeds), '|', color=colour, alpha=0.7)
  axes.errorbar(
    value.mean * scale,
    position,
    xerr=(value.half_width or 0) * scale,
    fmt='o',
    color=colour,
    capsize=3,
  )


def plot_sweep(result: Mapping[str, Any], name: str) -> Figure:
  """Accuracy and click error over a fraction of the images, a line for each arm.

  Args:
    result: of `study.run_study`.
    name: of a sweep in it.
  """
  sweep = result['sweeps'][name]
  metrics = statistics.sort_metrics(
    metric
    for values in sweep['arms'].values()
    for value in values
    for metric in value
    if statistics.is_primary(metric)
  )
  columns = min(max(len(metrics), 1), 3)
  figure, panels = _panels(-(-len(metrics) // columns) or 1, columns, height=3.0)
  styles = dict(zip(result['arms'], zip(_COLOURS, _MARKERS, strict=True), strict=True))
  for axes, metric in zip(panels.flat, metrics, strict=False):
    _prepare(axes, metric, grid='y')
    axes.set_xlabel(_SWEEP_LABELS[name], color=TEXT)
    scale = statistics.scale(metric)
    for arm, values in sweep['arms'].items():
      points = zip(sweep['values'], values, strict=True)
      known = [(100 * fraction, value[metric]) for fraction, value in points if metric in value]
      if known:
        colour, marker = styles[arm]
        axes.errorbar(
          [percent for percent, _ in known],
          [value.mean * scale for _, value in known],
          yerr=[(value.half_width or 0) * scale for _, value in known],
          color=colour,
          marker=marker,
          markersize=5,
          capsize=3,
          label=arm,
        )
  handles, labels = panels.flat[0].get_legend_handles_labels()
  figure.legend(
    handles, labels, loc='outside upper center', ncols=len(labels), frameon=False, labelcolor=TEXT
  )
  return figure


def _panels(rows: int, columns: int, *, height: float) -> tuple[Figure, np.ndarray]:
  size = (3.4 * columns + 1.2, height * rows + 0.6)
  figure = Figure(figsize=size, dpi=130, layout='constrained', facecolor=BACKGROUND)
  panels = figure.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_axis_off()  # until something is drawn
  return figure, panels


def _prepare(axes: Axes, metric: str, *, grid: Literal['x', 'y']) -> None:
  axes.set_axis_on()
  axes.set_facecolor(BACKGROUND)
  unit = '' if metric == statistics.COST else ' (%)'
  axes.set_title(statistics.describe_metric(metric) + unit, color=TEXT, fontsize=10)
  axes.grid(axis=grid, color=GRID)
  axes.set_axisbelow(True)
  axes.tick_params(colors=TEXT, labelsize=9)
  for side, spine in axes.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(TEXT)
