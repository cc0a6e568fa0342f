"""The results of a study in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from luab_jax.tools.study import metrics
from luab_jax.tools.study.intervals import Interval

BOXES = 'Do the maps find the object?'
PLACES = 'Do the heads learn where people click?'


def verdicts(result: Mapping[str, Any]) -> dict[str, list[str]]:
  """{question: sentences} for what `comparisons.compare` returns."""
  found: dict[str, list[str]] = {}
  for comparison in result['comparisons']:
    for name in metrics.ACCURACY:
      values = {
        metrics.split_and_name(metric)[0]: value
        for metric, value in comparison['metrics'].items()
        if metrics.split_and_name(metric)[1] == name
      }
      if values:
        found.setdefault(comparison['question'], []).append(_compare(comparison, name, values))
  boxes: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
  for box in result['boxes']:
    boxes.setdefault((box['arm'], box['kind'], box['reference']), []).append(box)
  found[BOXES] = [_boxes(*key, of_splits) for key, of_splits in boxes.items()]
  found[PLACES] = list(map(_place, result['places']))
  return {question: sentences for question, sentences in found.items() if sentences}


def _compare(comparison: Mapping[str, Any], name: str, values: Mapping[str, Interval]) -> str:
  """'Compared with no clicks, the map loss raises top-1 on a (by 1.2 to 2.1 points); …'."""
  words = metrics.describe_name(name)
  against, subject = comparison['against'], comparison['subject']
  clauses = _clauses(
    values,
    (f'raises {words}', f'lowers {words}', f'no difference in {words} is shown'),
    f'nothing can be said about {words}',
  )
  link = ':' if clauses.startswith('no') else ''
  return f'Compared with {against}, {subject}{link} {clauses}.'


def _boxes(arm: str, kind: str, reference: str, boxes: Sequence[Mapping[str, Any]]) -> str:
  """'Compared with the CAM of a, the attention map of b has a higher MaxBoxAccV2 on …'."""
  levels = {
    box['split']: f'{_percent(box["map"].mean)} and {_percent(box["cam"].mean)}' for box in boxes
  }
  clauses = _clauses(
    {box['split']: box['difference'] for box in boxes},
    ('is better', 'is worse', 'no difference is shown'),
    'nothing can be said',
    levels,
  )
  link = ':' if clauses.startswith('no') else ''
  return (
    f'By MaxBoxAccV2, the {metrics.KINDS[kind]} of {arm}, compared with the CAM of '
    f'{reference}{"," * (not link)}{link} {clauses}.'
  )


def _clauses(
  values: Mapping[str, Interval],
  starts: tuple[str, str, str],
  unknown: str,
  levels: Mapping[str, str] | None = None,
) -> str:
  """'raises top-1 on a (by 1.2 to 2.1 points), on b (…); no difference … is shown on c (…)'.

  Args:
    values: {split: difference} in fractions.
    starts: how to word a higher value, a lower one, and no shown difference.
    unknown: how to word a difference without an interval.
    levels: {split: the values that are compared}, added to the differences.
  """
  counts = {value.reason or _counts(value) for value in values.values()}
  everywhere = f' ({counts.pop()})' if len(counts) == 1 else ''
  found: dict[str, list[str]] = {}
  for split, value in values.items():
    parts = [levels[split]] if levels else []
    if value.reason:
      start = unknown
    elif value.excludes_zero():
      start = starts[0 if value.mean > 0 else 1]
      parts.append(f'by {_size(value)} points')
    else:
      start = starts[2]
      parts.append(f'{_ends(value)} points')
    if not everywhere:
      parts.append(value.reason or _counts(value))
    text = f' ({"; ".join(parts)})' if parts else ''
    found.setdefault(start, []).append(f'on {split}{text}')
  order = sorted(found, key=lambda start: start in (starts[2], unknown))
  return '; '.join(f'{start} {", ".join(found[start])}' for start in order) + everywhere


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
  what = 'predicts the place of the click' if better else 'has learned nothing about position'
  return f'{place["arm"]} {what} {where}: {numbers} ({_counts(error)}).'


def _size(value: Interval) -> str:
  """'12.0 to 20.1', in points: the size of a difference whose sign is known."""
  assert value.low is not None and value.high is not None
  low, high = sorted((abs(value.low), abs(value.high)))
  return f'{_percent(low)} to {_percent(high)}'


def _ends(value: Interval) -> str:
  """'−1.2 to +2.3', in points."""
  assert value.low is not None and value.high is not None
  return f'{_percent(value.low, signed=True)} to {_percent(value.high, signed=True)}'


def _percent(value: float, *, signed: bool = False) -> str:
  return metrics.format_value('', value, signed=signed)


def _counts(value: Interval) -> str:
  """'1,000 images in 190 units, 5 seeds'."""
  images = f'{value.images:,} images' if value.images else ''
  if value.units and value.units != value.images:
    images += f' in {value.units:,} units'
  return ', '.join(filter(None, (images, f'{value.seeds} seeds')))
