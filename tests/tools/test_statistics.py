"""The numbers of a study: intervals, pairs of seeds, metrics and their names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from luab_jax.tools.study import statistics


@pytest.mark.filterwarnings('ignore:Precision loss')
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 2), min_size=2, max_size=8))
def test_intervals_are_those_of_scipy(pairs):
  left, right = np.array(pairs).T
  runs, reference = (
    {seed: {'a/top1': value} for seed, value in enumerate(values)} for values in (left, right)
  )
  difference = statistics.subtract(runs, reference)['a/top1']
  mean = statistics.summarise(runs)['a/top1']
  assert difference.n == mean.n == len(pairs)
  for found, expected in (
    (difference, stats.ttest_rel(left, right)),
    (mean, stats.ttest_1samp(left, 0)),
  ):
    low, high = expected.confidence_interval(0.95)
    if np.isfinite([low, high]).all():  # scipy has none where all differences are the same
      np.testing.assert_allclose(
        [found.mean - found.half_width, found.mean + found.half_width], [low, high], atol=1e-9
      )


def test_seeds_are_paired_and_missing_seeds_are_named():
  runs = {0: {'a/top1': 0.5}, 1: {'a/top1': 0.8}, 2: {'a/top1': 0.7}}
  reference = {2: {'a/top1': 0.6}, 1: {'a/top1': 0.6}, 3: {'a/top1': 0.0}}
  value = statistics.subtract(runs, reference)['a/top1']
  assert value.n == 2 and value.mean == pytest.approx(0.15) and value.includes_zero()
  text = statistics.format_interval('a/top1', value, n=3, signed=True)
  assert text == '+15.0 ± 63.5 (n = 2) (includes 0)'
  sure = statistics.Interval(3, -0.02, 0.01)
  assert statistics.format_interval('a/top1', sure, n=3, signed=True) == '-2.0 ± 1.0'
  assert (
    statistics.format_interval(statistics.COST, statistics.Interval(1, 93.21, None), n=1) == '93.2'
  )
  assert (
    statistics.format_interval('a/top1', statistics.Interval(1, -1e-9, None), n=1, signed=True)
    == '+0.0'
  )
  assert statistics.format_interval('a/top1', None, n=3) == '–'


def test_metrics_of_a_summary():
  summary = {
    'results': {
      'b': {
        'examples': 40,
        'class_loss': 1.5,
        'mAP': float('nan'),
        'click_error': 0.2,
        'maxboxacc_v2_cam': 0.4,
        'images_with_boxes': 3,
        'ap_per_class': {'x': 0.1},
      },
      'a': {'top1': 0.5, 'click_error': 0.1},
    },
    'ms_per_step': 12.5,
  }
  assert list(statistics.summary_metrics(summary).items()) == [
    ('a/top1', 0.5),
    ('a/click_error', 0.1),
    ('b/click_error', 0.2),
    ('b/maxboxacc_v2_cam', 0.4),
    (statistics.COST, 12.5),
  ]


@pytest.mark.parametrize(
  ('metric', 'text'),
  [
    ('a_b/top1', 'top-1, a_b'),
    ('v/top1_loc_cam', 'top-1 localisation CAM, v'),
    ('v/maxboxacc_v2_attention', 'MaxBoxAccV2 attention, v'),
    ('v/mAP', 'mAP, v'),
    ('v/click_error', 'click error, v'),
    (statistics.COST, 'ms per step'),
  ],
)
def test_metrics_in_words(metric, text):
  assert statistics.describe_metric(metric) == text
