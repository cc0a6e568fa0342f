"""What a study shows, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from luab_jax.tools.study import metrics
from luab_jax.tools.study.intervals import Interval

BOXES = 'Do the maps find the object?'
PLACES = 'Do the heads learn where people click?'


def verdicts(result: Mapping[str, Any]) -> dict[str, list[str]]:
  """{question: sentences} for what `comparisons.compare` returns."""
  found: dict[str, list[str]] = {}
  for comparison in result['comparisons']:
    accuracy = {
      metric: value
      for metric, value in comparison['metrics'].items()
      if metrics.split_and_name(metric)[1] in metrics.ACCURACY
    }
    if accuracy:
      found.setdefault(comparison['question'], []).append(_compare(comparison, accuracy))
  found[BOXES] = list(map(_boxes, result['boxes']))
  found[PLACES] = list(map(_place, result['places']))
  return {question: sentences for question, sentences in found.items() if sentences}


def _compare(comparison: Mapping[str, Any], accuracy: Mapping[str, Interval]) -> str:
  """'Compared with no clicks, the map loss raises top-1 on a by 1.2 to 2.1 points; …'."""
  counts = {_counts(value) for value in accuracy.values() if not value.reason}
  everywhere = f' ({counts.pop()})' if len(counts) == 1 else ''
  found: dict[str, list[str]] = {}  # {how it begins: what follows, a text for each split}
  for metric, value in accuracy.items():
    split, name = metrics.split_and_name(metric)
    own = '' if everywhere else f'; {_counts(value)}'
    if value.reason:
      start, text = f'nothing can be said about {metrics.describe_name(name)}', value.reason
    elif value.excludes_zero():
      start = f'{"raises" if value.mean > 0 else "lowers"} {metrics.describe_name(name)}'
      text = f'by {_size(metric, value)} points{own}'
    else:
      start = f'no difference in {metrics.describe_name(name)} is shown'
      text = f'{_ends(metric, value)} points{own}'
    found.setdefault(start, []).append(f'on {split} ({text})')
  order = sorted(found, key=lambda start: start.startswith('no'))
  clauses = '; '.join(f'{start} {", ".join(found[start])}' for start in order)
  link = ':' if order[0].startswith('no') else ''
  against, subject = comparison['against'], comparison['subject']
  return f'Compared with {against}, {subject}{link} {clauses}{everywhere}.'


def _boxes(boxes: Mapping[str, Any]) -> str:
  metric, value = f'{boxes["split"]}/maxboxacc_v2', boxes['difference']
  levels = [metrics.format_value(metric, boxes[key].mean) for key in ('map', 'cam')]
  text = (
    f'On {boxes["split"]}, MaxBoxAccV2 of the {metrics.KINDS[boxes["kind"]]} of {boxes["arm"]} is '
    f'{levels[0]}, that of the CAM of {boxes["reference"]} {levels[1]}: '
  )
  if value.reason:
    return f'{text}nothing can be said from {value.reason}.'
  if not value.excludes_zero():
    return f'{text}no difference shown, {_ends(metric, value)} points ({_counts(value)}).'
  better = 'better' if value.mean > 0 else 'worse'
  return f'{text}{better} by {_size(metric, value)} points ({_counts(value)}).'


def _place(place: Mapping[str, Any]) -> str:
  metric, error = f'{place["split"]}/click_error', place['click_error']
  constants = {key: place[key] for key in metrics.CONSTANTS if key in place}
  others = ', '.join(
    f'{metrics.CONSTANTS[key]} {metrics.format_value(metric, constant["mean"])}'
    for key, constant in constants.items()
  )
  numbers = f'click error {metrics.format_interval(metric, error)}' + f', {others}' * bool(others)
  where = f'on {place["split"]}'
  if error.reason:
    return f'{place["arm"]} {where}: {numbers}; nothing can be said from {error.reason}.'
  if not constants:
    return f'{place["arm"]} {where}: {numbers} ({_counts(error)}).'
  better = all(constant['difference'].high < 0 for constant in constants.values())
  what = 'predicts the place of the click' if better else 'has learned nothing about place'
  return f'{place["arm"]} {what} {where}: {numbers} ({_counts(error)}).'


def _size(metric: str, value: Interval) -> str:
  """'12.0 to 20.1': the size of a difference whose sign is known."""
  assert value.low is not None and value.high is not None
  low, high = sorted((abs(value.low), abs(value.high)))
  return f'{metrics.format_value(metric, low)} to {metrics.format_value(metric, high)}'


def _ends(metric: str, value: Interval) -> str:
  """'−1.2 to +2.3'."""
  assert value.low is not None and value.high is not None
  ends: Iterator[str] = (
    metrics.format_value(metric, end, signed=True) for end in (value.low, value.high)
  )
  return ' to '.join(ends)


def _counts(value: Interval) -> str:
  """'1,000 images in 190 units, 5 seeds'; '' where nothing can be said."""
  if value.reason:
    return ''
  images = f'{value.images:,} images' if value.images else ''
  if value.units and value.units != value.images:
    images += f' in {value.units:,} units'
  return ', '.join(filter(None, (images, f'{value.seeds} seeds')))
