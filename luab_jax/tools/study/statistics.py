"""Statistics of a study: means over seeds, differences paired by seed, and their tables.

Intervals are two-sided 95% confidence intervals of Student's t with n - 1 degrees of freedom. A
metric is named '<split>/<name>', for example 'uncorrelated/top1'.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
COST = 'cost/ms_per_step'
# Counts, training losses, and what another metric says already.
_HIDDEN = ('class_loss', 'point_loss', 'map_loss', 'points_used', 'click_error_px', 'top5')
# These come first, then the others (localisation), then the cost.
_FIRST = ('top1', 'mAP', 'click_error')
_WORDS = {
  'top1_loc': 'top-1 localisation',
  'top1': 'top-1',
  'maxboxacc_v2': 'MaxBoxAccV2',
  'pointing': 'pointing game',
  'ms_per_step': 'ms per step',
  'cam': 'CAM',
  '_': ' ',
}

Runs = Mapping[int, Mapping[str, float]]  # {seed: {metric: value}} of the runs of an arm


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean over `n` seeds and the half-width of its interval, None for a single seed."""

  n: int
  mean: float
  half_width: float | None

  def includes_zero(self) -> bool | None:
    """Whether 0 is inside; None if the interval is unknown."""
    return None if self.half_width is None else bool(abs(self.mean) <= self.half_width)

  def as_dict(self) -> dict[str, Any]:
    """For study.json."""
    return {**dataclasses.asdict(self), 'includes_zero': self.includes_zero()}


def interval(values: Sequence[float]) -> Interval:
  """The mean of one or more values and its interval."""
  n = len(values)
  half_width = None
  if n > 1:
    half_width = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(values))
  return Interval(n, float(np.mean(values)), half_width)


def summary_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
  """{metric: value} of a run's summary.json: every finite float of every split.

  Integers are counts and left out, as are losses and what another metric says already.
  """
  metrics = {
    f'{split}/{name}': value
    for split, results in summary['results'].items()
    for name, value in results.items()
    if isinstance(value, float) and math.isfinite(value) and name not in _HIDDEN
  }
  if summary.get('ms_per_step') is not None:
    metrics[COST] = summary['ms_per_step']
  return {metric: metrics[metric] for metric in sort_metrics(metrics)}


def sort_metrics(metrics: Iterable[str]) -> list[str]:
  """Metrics in the order of all tables, each once."""

  def rank(metric: str) -> tuple[bool, int, str, str]:
    split, name = _split_and_name(metric)
    return metric == COST, _FIRST.index(name) if name in _FIRST else len(_FIRST), name, split

  return sorted(set(metrics), key=rank)


def _split_and_name(metric: str) -> tuple[str, str]:
  split, _, name = metric.rpartition('/')  # a split may have a slash: imagenet_v2/topimages
  return split, name


def is_primary(metric: str) -> bool:
  """True for accuracy, mAP and click error: those that sweeps show."""
  return _split_and_name(metric)[1] in _FIRST


def summarise(runs: Runs) -> dict[str, Interval]:
  """{metric: Interval} over the seeds that have the metric."""
  names = sort_metrics(name for metrics in runs.values() for name in metrics)
  return {
    name: interval([metrics[name] for metrics in runs.values() if name in metrics])
    for name in names
  }


def subtract(runs: Runs, reference: Runs) -> dict[str, Interval]:
  """{metric: Interval} of the differences runs - reference, paired by seed."""
  return summarise(
    {
      seed: {
        name: runs[seed][name] - reference[seed][name]
        for name in runs[seed].keys() & reference[seed].keys()
      }
      for seed in runs.keys() & reference.keys()
    }
  )


def describe_metric(metric: str) -> str:
  """A metric in words: 'top-1, uncorrelated', 'pointing game CAM, validation'."""
  split, name = _split_and_name(metric)
  for short, words in _WORDS.items():
    name = name.replace(short, words)
  return name if metric == COST else f'{name}, {split}'


def scale(metric: str) -> float:
  """Factor of the displayed values: all but the cost are displayed in %."""
  return 1 if metric == COST else 100


def format_interval(metric: str, value: Interval | None, *, n: int, signed: bool = False) -> str:
  """'72.1 ± 0.8'; signed: '+0.4 ± 1.2 (includes 0)'; '–' for None.

  Args:
    metric: its name.
    value: the interval.
    n: seeds of the study; another number is added to the text.
    signed: for differences.
  """
  if value is None:
    return '–'
  mean = round(value.mean * scale(metric), 1) + 0.0  # no '-0.0'
  text = f'{mean:{"+" if signed else ""}.1f}'
  if value.half_width is not None:
    text += f' ± {value.half_width * scale(metric):.1f}'
  if value.n != n:
    text += f' (n = {value.n})'
  if signed and value.includes_zero():
    text += ' (includes 0)'
  return text


def format_table(
  columns: Mapping[str, Mapping[str, Interval]], *, n: int, signed: bool = False
) -> str:
  """A Markdown table of {heading: {metric: Interval}} with a row for each metric.

  Args:
    columns: in their order.
    n, signed: see `format_interval`.
  """
  lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
  for metric in sort_metrics(name for column in columns.values() for name in column):
    cells = [
      format_interval(metric, column.get(metric), n=n, signed=signed) for column in columns.values()
    ]
    lines.append(f'| {describe_metric(metric)} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'
