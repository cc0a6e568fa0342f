"""Statistics of a study: means over seeds, differences paired by seed, and their tables.

Intervals are the two-sided 95 % ones of Student's t with n - 1 degrees of freedom. Runs of one arm
are a dict {seed: {figure: value}}; a figure is called '<split>/<name>', for example
'uncorrelated/top1'.
"""

import dataclasses
import math

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
COST = 'cost/ms_per_step'
# Counts, the losses that were optimised, and what another figure says already.
_HIDDEN = ('class_loss', 'point_loss', 'points_used', 'click_error_px', 'top5')
# These first, the others (localisation) after them, the cost at the end.
_FIRST = ('top1', 'mAP', 'click_error')
_WORDS = {
  'top1_loc': 'top-1 localisation',
  'top1': 'top-1',
  'maxboxacc_v2': 'MaxBoxAccV2',
  'pointing': 'pointing game',
  'ms_per_step': 'ms a step',
  'cam': 'CAM',
  '_': ' ',
}


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean over `n` seeds and half the width of its interval, None for a single seed."""

  n: int
  mean: float
  half_width: float | None

  def includes_zero(self) -> bool | None:
    """Whether 0 is inside; None if the interval is unknown."""
    return None if self.half_width is None else bool(abs(self.mean) <= self.half_width)

  def as_dict(self) -> dict:
    """For study.json."""
    return {**dataclasses.asdict(self), 'includes_zero': self.includes_zero()}


def interval(values) -> Interval:
  """The mean of one or more values and its interval."""
  values = np.asarray(values, np.float64)
  n = len(values)
  half = None
  if n > 1:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(values))
  return Interval(n, float(values.mean()), half)


def figures_of(summary) -> dict[str, float]:
  """What a run's summary.json says, as {figure: value}: every finite float of every split.

  Whole numbers are counts and left out, as are losses and what another figure says already.
  """
  figures = {
    f'{split}/{name}': value
    for split, results in summary['results'].items()
    for name, value in results.items()
    if isinstance(value, float) and math.isfinite(value) and name not in _HIDDEN
  }
  if summary.get('ms_per_step') is not None:
    figures[COST] = summary['ms_per_step']
  return dict(sorted(figures.items(), key=lambda item: _rank(item[0])))


def _rank(figure):
  split, _, name = figure.rpartition('/')  # a split may have a slash: imagenet_v2/topimages
  return figure == COST, _FIRST.index(name) if name in _FIRST else len(_FIRST), name, split


def is_primary(figure) -> bool:
  """True of accuracy, mAP and click error: those that sweeps show."""
  return figure.rpartition('/')[2] in _FIRST


def sorted_figures(names) -> list[str]:
  """Figures in the order of all tables, each once."""
  return sorted(set(names), key=_rank)


def summarise(runs) -> dict[str, Interval]:
  """{figure: Interval} over the seeds that have the figure."""
  names = sorted_figures(name for figures in runs.values() for name in figures)
  return {
    name: interval([figures[name] for figures in runs.values() if name in figures])
    for name in names
  }


def subtract(runs, reference) -> dict[str, Interval]:
  """{figure: Interval} of the differences runs - reference, taken seed by seed."""
  differences: dict[str, list] = {}
  for seed in runs.keys() & reference.keys():
    for name in runs[seed].keys() & reference[seed].keys():
      differences.setdefault(name, []).append(runs[seed][name] - reference[seed][name])
  return {name: interval(differences[name]) for name in sorted_figures(differences)}


def label(figure) -> str:
  """A figure for people: 'top-1, uncorrelated', 'pointing game CAM, validation'."""
  split, _, name = figure.rpartition('/')  # a split may have a slash: imagenet_v2/topimages
  for short, words in _WORDS.items():
    name = name.replace(short, words)
  return name if figure == COST else f'{name}, {split}'


def scale(figure) -> float:
  """What a value is multiplied with to be shown: all but the cost are shown in %."""
  return 1 if figure == COST else 100


def cell(figure, value, *, n, signed=False) -> str:
  """'72.1 ± 0.8' of an Interval; signed: '+0.4 ± 1.2 (includes 0)'.

  Args:
    figure: its name.
    value: Interval or None.
    n: seeds of the study; another number of them is said in the cell.
    signed: it is a difference.
  """
  if value is None:
    return '–'
  mean = round(value.mean * scale(figure), 1) + 0.0  # no '-0.0'
  text = f'{mean:{"+" if signed else ""}.1f}'
  if value.half_width is not None:
    text += f' ± {value.half_width * scale(figure):.1f}'
  if value.n != n:
    text += f' (n = {value.n})'
  if signed and value.includes_zero():
    text += ' (includes 0)'
  return text


def table(columns, *, n, signed=False) -> str:
  """A Markdown table with a line for each figure.

  Args:
    columns: {heading: {figure: Interval}}.
    n, signed: see `cell`.
  """
  lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
  for figure in sorted_figures(name for column in columns.values() for name in column):
    cells = [cell(figure, column.get(figure), n=n, signed=signed) for column in columns.values()]
    lines.append(f'| {label(figure)} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'
