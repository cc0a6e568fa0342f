"""How many images, clicks and seeds it takes to tell whether clicks help."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

if TYPE_CHECKING:  # own_data imports this module before it knows that it needs TensorFlow
  from luab_jax.data.pipeline import EvalSplits

# Ours. With fewer images or seeds the study gives no interval (tools/study/intervals.py).
MIN_SEEDS, MIN_IMAGES = 3, 50
# Ours; the fewest clicks measured in docs/study.md are those of 10 % of 4,050 images.
MIN_CLICKS = 100


def shortcomings(
  images: Mapping[str, int], *, clicks: int | None = None, seeds: int = 1
) -> list[str]:
  """The reasons why these data and runs cannot tell whether clicks help, one phrase each.

  Args:
    images: {split: number of images} of the evaluation.
    clicks: number of clicks or icons to train on; None: unknown.
    seeds: number of runs of each arm.
  """
  lines = [
    f'{split} has {_count(number, "image")}: too few (at least {MIN_IMAGES}; a difference of a few '
    'points needs about 1,000)'
    for split, number in images.items()
    if number < MIN_IMAGES
  ]
  if clicks is not None and 0 < clicks < MIN_CLICKS:
    lines.append(f'{_count(clicks, "click")}: too few (at least {MIN_CLICKS})')
  if seeds < MIN_SEEDS:
    lines.append(
      f'{_count(seeds, "seed")}: too few to tell a gain from chance (at least {MIN_SEEDS}, each '
      'with and without clicks; see --mode=study in docs/own_data.md)'
    )
  return lines


def caveat(loss: ConfigDict, splits: 'EvalSplits') -> str:
  """What a single run cannot tell, in one line; '' if no loss trains on clicks.

  Args:
    loss: `config.loss` of the run.
    splits: of its data set.
  """
  if not loss.point_weight and loss.map_loss == 'none':
    return ''
  lines = shortcomings(splits.num_examples(), clicks=splits.num_with_points)
  return f'this run alone cannot tell whether clicks help: {"; ".join(lines)}'


def _count(number: int, noun: str) -> str:
  return f'{number:,} {noun}{"s" * (number != 1)}'
