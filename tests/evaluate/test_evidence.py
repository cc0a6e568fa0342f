"""The caveat of runs whose data or seeds are too few to tell whether clicks help."""

from types import SimpleNamespace

import pytest

from configs import quickstart
from luab_jax.evaluate.evidence import caveat, shortcomings


@pytest.mark.parametrize(
  ('images', 'clicks', 'seeds', 'found'),
  [
    ({'validation': 50}, 100, 3, []),
    ({'validation': 1000}, None, 5, []),
    ({'validation': 49, 'test': 50}, 100, 3, ['validation has 49 images: too few']),
    ({'validation': 1}, 0, 3, ['validation has 1 image: too few']),
    ({'validation': 50}, 99, 2, ['99 clicks: too few', '2 seeds: too few to tell a gain']),
    ({'validation': 50}, 1, 1, ['1 click: too few', '1 seed: too few']),
  ],
)
def test_shortcomings(images, clicks, seeds, found):
  lines = shortcomings(images, clicks=clicks, seeds=seeds)
  assert [line.startswith(start) for line, start in zip(lines, found, strict=True)] == [True] * len(
    found
  )


def test_a_run_that_trains_on_clicks_gets_a_line():
  loss = quickstart.get_config().loss
  splits = SimpleNamespace(num_examples=lambda: {'validation': 12}, num_with_points=7)
  line = caveat(loss, splits)
  assert line.startswith('this run alone cannot tell whether clicks help: validation has 12 images')
  assert '; 7 clicks: ' in line and '; 1 seed: ' in line and '\n' not in line
  loss.point_weight = 0.0
  assert caveat(loss, splits) == ''
  loss.map_loss = 'gaussian'
  assert caveat(loss, splits) == line
