"""Plots of a study: points with their intervals, one panel a figure."""

from matplotlib.figure import Figure

from luab_jax.tools.study import statistics

# A ground of its own and dark text: it reads the same on a light and on a dark page.
_GROUND, _INK, _GRID = '#f7f6f2', '#24292f', '#d4d2cb'
# Okabe and Ito's palette, told apart by colour-blind readers; in the order of the arms.
_COLOURS = ('#24292f', '#d55e00', '#0072b2', '#56b4e9', '#cc79a7', '#e69f00')
_MARKERS = 'osD^vP'


def arms(result):
  """A row of panels for each figure, a panel for each split: mean, interval, and every seed.

  Args:
    result: of `study.run_study`.
  Returns:
    matplotlib Figure.
  """
  names = list(result['arms'])
  rows = {}
  for figure in statistics.sorted_figures(
    name for arm in result['arms'].values() for name in arm['figures']
  ):
    rows.setdefault(figure.rpartition('/')[2], []).append(figure)
  page, panels = _panels(len(rows), max(map(len, rows.values()), default=1), height=2.1)
  for line, figures in zip(panels, rows.values(), strict=False):
    for axes, figure in zip(line, figures, strict=False):
      _start(axes, figure)
      for position, arm in enumerate(result['arms'].values()):
        if figure in arm['figures']:
          value = arm['figures'][figure]
          scale = statistics.scale(figure)
          colour = _COLOURS[position % len(_COLOURS)]
          seeds = [run[figure] * scale for run in arm['runs'].values() if figure in run]
          axes.plot(seeds, [position + 0.25] * len(seeds), '|', color=colour, alpha=0.7)
          axes.errorbar(
            value.mean * scale,
            position,
            xerr=(value.half_width or 0) * scale,
            fmt='o',
            color=colour,
            capsize=3,
          )
      axes.set_yticks(range(len(names)), names if axes is line[0] else [''] * len(names))
      axes.set_ylim(len(names) - 0.5, -0.5)
  n = len(result['seeds'])
  page.suptitle(
    f'{result["model"]} on {result["data"]}: mean and 95 % interval, {n} seeds (ticks: each seed)'
    if n > 1
    else f'{result["model"]} on {result["data"]}: a single seed, no intervals',
    color=_INK,
    fontsize=11,
  )
  return page


def sweep(result, name):
  """Accuracy and click error over a share of the images, a line for each arm.

  Args:
    result: of `study.run_study`.
    name: of a sweep in it.
  Returns:
    matplotlib Figure.
  """
  content = result['sweeps'][name]
  figures = statistics.sorted_figures(
    figure
    for values in content['arms'].values()
    for value in values
    for figure in value
    if statistics.is_primary(figure)
  )
  across = min(max(len(figures), 1), 3)
  page, panels = _panels(-(-len(figures) // across) or 1, across, height=3.0)
  colours = dict(zip(result['arms'], zip(_COLOURS, _MARKERS, strict=True), strict=True))
  for axes, figure in zip(panels.flat, figures, strict=False):
    _start(axes, figure, across=False)
    for arm, values in content['arms'].items():
      points = zip(content['values'], values, strict=True)
      known = [(share, f[figure]) for share, f in points if figure in f]
      if known:
        scale, (colour, marker) = statistics.scale(figure), colours[arm]
        axes.errorbar(
          [100 * share for share, _ in known],
          [f.mean * scale for _, f in known],
          yerr=[(f.half_width or 0) * scale for _, f in known],
          color=colour,
          marker=marker,
          markersize=5,
          capsize=3,
          label=arm,
        )
    axes.set_xlabel(
      {
        'data_fractions': 'training images used, %',
        'byproduct_fractions': 'images with byproducts, %',
      }[name],
      color=_INK,
    )
  handles, labels = panels.flat[0].get_legend_handles_labels()
  page.legend(
    handles, labels, loc='outside upper center', ncols=len(labels), frameon=False, labelcolor=_INK
  )
  return page


def save(page, path):
  """Writes a figure as PNG."""
  page.savefig(path, dpi=130, facecolor=_GROUND)


def _panels(rows, columns, *, height):
  page = Figure(figsize=(3.4 * columns + 1.2, height * rows + 0.6), layout='constrained')
  panels = page.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_axis_off()  # until something is drawn
  return page, panels


def _start(axes, figure, across=True):
  axes.set_axis_on()
  axes.set_facecolor(_GROUND)
  unit = '' if figure == statistics.COST else ' (%)'
  axes.set_title(statistics.label(figure) + unit, color=_INK, fontsize=10)
  axes.grid(axis='x' if across else 'y', color=_GRID)
  axes.set_axisbelow(True)
  axes.tick_params(colors=_INK, labelsize=9)
  for side, spine in axes.spines.items():
    spine.set_visible(side in ('left', 'bottom'))
    spine.set_color(_INK)
