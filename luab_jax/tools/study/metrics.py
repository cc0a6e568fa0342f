"""Metrics of a study: which are shown, in which order, and their names and values in words.

A metric is named '<split>/<name>', for example 'uncorrelated/top1'.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from luab_jax.tools.study.intervals import Interval, Sample, interval

COST = 'cost/ms_per_step'
# Counts, training losses, and metrics that repeat another one.
_HIDDEN = ('class_loss', 'point_loss', 'map_loss', 'points_used', 'click_error_px', 'top5')
# The click errors of constant predictions: the same in all arms, so not listed as metrics.
CONSTANTS = {'click_error_centre': 'always the centre', 'click_error_mean': 'always the mean click'}
ACCURACY = ('top1', 'mAP')
PRIMARY = (*ACCURACY, 'click_error')  # those that sweeps show
PLACE, MAPS = 'Click position', 'Maps and ground-truth boxes'
# Heading of a table or chart: prefixes of the names of its metrics.
GROUPS = {
  'Accuracy': ('top1', 'mAP'),
  PLACE: ('click_error',),
  MAPS: ('maxboxacc', 'epg'),
  'Pointing game and top-1 localisation': ('pointing', 'top1_loc'),
  'Other': ('',),
}
_FIRST = ('top1', 'mAP', 'click_error', 'maxboxacc', 'epg', 'pointing', 'top1_loc')
_WORDS = {
  'top1_loc': 'top-1 localisation',
  'top1': 'top-1',
  'click_error': 'click error',
  'maxboxacc_v2': 'MaxBoxAccV2',
  'pointing': 'pointing game',
  'epg': 'energy pointing game',
  'ms_per_step': 'ms per step',
}
KINDS = {
  'log_attention': 'logarithm of the attention map',
  'attention': 'attention map',
  'cam': 'CAM',
}


def split_and_name(metric: str) -> tuple[str, str]:
  """The parts of a metric; a split may have a slash: imagenet_v2/topimages."""
  split, _, name = metric.rpartition('/')
  return split, name


def summary_metrics(summary: Mapping[str, Any], *, points_trained: bool) -> dict[str, float]:
  """{metric: value} of a run's summary.json: every finite float of every split.

  Integers (counts), losses and metrics that repeat another one are left out.

  Args:
    summary: content of the file.
    points_trained: False leaves out the click error.
  """
  metrics = {
    f'{split}/{name}': value
    for split, results in summary['results'].items()
    for name, value in results.items()
    if isinstance(value, float) and math.isfinite(value) and name not in _HIDDEN
    if points_trained or name != 'click_error'
  }
  if summary.get('ms_per_step') is not None:
    metrics[COST] = summary['ms_per_step']
  return {metric: metrics[metric] for metric in sort(metrics)}


def sort(metrics: Iterable[str]) -> list[str]:
  """Metrics in the order of all tables, each once."""

  def rank(metric: str) -> tuple[bool, int, str, str]:
    split, name = split_and_name(metric)
    first = next((i for i, start in enumerate(_FIRST) if _starts(name, start)), len(_FIRST))
    return metric == COST, first, name, split

  return sorted(set(metrics), key=rank)


def _starts(name: str, start: str) -> bool:
  # 'top1_loc' does not belong to 'top1', but 'mAP_small' belongs to 'mAP'.
  return name.startswith(start) and not (start == 'top1' and name.startswith('top1_loc'))


def group(metric: str) -> str:
  """The key of GROUPS that a metric belongs to."""
  name = split_and_name(metric)[1]
  return next(title for title, starts in GROUPS.items() if any(_starts(name, s) for s in starts))


def is_constant(metric: str) -> bool:
  """True for the click error of a constant prediction."""
  return split_and_name(metric)[1] in CONSTANTS


def is_primary(metric: str) -> bool:
  """True for a metric of PRIMARY on any split."""
  return split_and_name(metric)[1] in PRIMARY


def describe_name(name: str) -> str:
  """A metric without its split in words: 'pointing game of CAM'."""
  kind = next((kind for kind in KINDS if name.endswith(f'_{kind}')), '')
  name = name.removesuffix(f'_{kind}') if kind else name
  for short, words in _WORDS.items():
    if name.startswith(short):
      name = words + name.removeprefix(short).replace('_', ' ')
      break
  else:
    name = name.replace('_', ' ')
  return f'{name} of {"" if kind == "cam" else "the "}{KINDS[kind]}' if kind else name


def describe(metric: str) -> str:
  """A metric in words: 'top-1, uncorrelated', 'pointing game of CAM, validation'."""
  split, name = split_and_name(metric)
  return describe_name(name) if metric == COST else f'{describe_name(name)}, {split}'


def is_percentage(metric: str) -> bool:
  """False for click errors (fractions of the image side) and for the cost (ms)."""
  return metric != COST and not split_and_name(metric)[1].startswith('click_error')


def to_interval(metric: str, sample: Sample, *, difference: bool = False) -> Interval:
  """The interval of a metric, clipped to its possible values."""
  highest = 1.0 if is_percentage(metric) else math.inf
  return interval(sample, -highest if difference else 0.0, highest)


def format_value(metric: str, value: float, *, signed: bool = False) -> str:
  """'72.1', '0.074', signed '+0.4' or '−1.2'."""
  scale, digits = (100, 1) if is_percentage(metric) else (1, 1 if metric == COST else 3)
  number = round(value * scale, digits) + 0.0  # no '-0.0'
  return f'{number:{"+" if signed else ""}.{digits}f}'.replace('-', '−')


def format_interval(
  metric: str, value: Interval | None, *, signed: bool = False, seeds: int | None = None
) -> str:
  """'72.1 (70.3 to 74.0)', or the mean alone if there is no interval; '–' for None.

  Args:
    metric: its name.
    value: the interval.
    signed: for differences.
    seeds: number of seeds in the study; if the interval has another number, the text says so.
  """
  if value is None:
    return '–'
  text = format_value(metric, value.mean, signed=signed)
  if value.low is not None and value.high is not None:
    ends = (format_value(metric, end, signed=signed) for end in (value.low, value.high))
    text += f' ({" to ".join(ends)})'
  if seeds and value.seeds != seeds:
    text += f' [n = {value.seeds}]'
  return text
