"""Charts for the HTML pages, each with an alt text that lists its values.

Figures are created without pyplot: no global state, no display.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from luab_jax.report import html
from luab_jax.report.style import BACKGROUND, GRID, PALETTE, TEXT


def curves(title: str, values: dict[str, list[tuple[int, float]]]) -> html.Image:
  """Lines over training steps.

  Args:
    title: what is drawn, with its unit.
    values: {name: [(step, value), ...]}; a curve with a single point is drawn as a larger marker.
  """
  figure, axes = _chart(title, height=3.1)
  for number, (name, points) in enumerate(values.items()):
    axes.plot(
      *zip(*points, strict=True),
      color=PALETTE[number % len(PALETTE)],
      linewidth=1.8,
      marker='o' if len(points) <= 40 else None,
      markersize=4 if len(points) > 1 else 7,
      label=name.replace('_', ' '),
    )
  axes.set_xlabel('step', color=TEXT)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  legend = axes.legend(fontsize=9, facecolor=BACKGROUND, edgecolor=GRID, labelcolor=TEXT)
  for text in legend.get_texts():
    text.set_parse_math(False)
  ends = '; '.join(
    f'{name} from {points[0][1]:.3g} at step {points[0][0]} to {points[-1][1]:.3g} at step '
    f'{points[-1][0]}'
    for name, points in values.items()
  )
  return html.chart(figure, f'{title} over steps: {ends}')


def bars(title: str, values: dict[str, float], form: str = '.3f') -> html.Image:
  """Horizontal bars in the given order, top to bottom; `form` is the format spec of the values."""
  figure, axes = _chart(title, height=0.9 + 0.23 * len(values))
  labels = [format(value, form) for value in values.values()]
  drawn = axes.barh(range(len(values)), list(values.values()), color=PALETTE[0], height=0.7)
  axes.bar_label(drawn, labels, padding=3, fontsize=9, color=TEXT)
  axes.set_yticks(range(len(values)), list(values), fontsize=9)
  for label in axes.get_yticklabels():
    label.set_parse_math(False)
  axes.set_ylim(len(values) - 0.4, -0.6)
  axes.set_xlim(0, max(*values.values(), 1e-9) * 1.15)
  axes.grid(False, axis='y')
  if form.endswith('%'):
    axes.xaxis.set_major_formatter(PercentFormatter(1))
  pairs = ', '.join(f'{name} {label}' for name, label in zip(values, labels, strict=True))
  return html.chart(figure, f'{title}: {pairs}')


def positions(title: str, points: np.ndarray) -> html.Image:
  """A 2D histogram of points f32[N,2], (x, y) in [0, 1], N > 0."""
  figure, axes = _chart(title, height=3.6)
  histogram = axes.hist2d(points[:, 0], points[:, 1], bins=12, range=((0, 1), (0, 1)))[-1]
  axes.set(ylim=(1, 0), aspect='equal')
  axes.grid(False)
  axes.set_xlabel('x (right)', color=TEXT)
  axes.set_ylabel('y (down)', color=TEXT)
  scale = figure.colorbar(histogram, ax=axes, shrink=0.85)
  scale.set_label('points', color=TEXT)
  scale.ax.tick_params(colors=TEXT)
  x, y = points.mean(0)
  return html.chart(figure, f'Heat map: {title}; mean position ({x:.2f}, {y:.2f})')


def _chart(title: str, *, height: float) -> tuple[Figure, Axes]:
  layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
  figure = Figure(figsize=(5.2, height), dpi=130, layout=layout, facecolor=BACKGROUND)
  axes = figure.add_subplot(facecolor=BACKGROUND)
  axes.set_title(title, fontsize=11, color=TEXT, loc='left', parse_math=False)
  axes.grid(True, color=GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=TEXT, labelsize=9)
  for side in axes.spines.values():
    side.set_color(GRID)
  return figure, axes
