"""Confidence intervals of a study: two-level bootstrap, coverage, and when there is no interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from luab_jax.tools.study import intervals
from luab_jax.tools.study.intervals import Sample, interval, resample


def _sample(values, units=None):
  """The Sample of f[S,N]."""
  values = np.asarray(values, float)
  units = np.arange(values.shape[1]) if units is None else units
  known = np.isfinite(values[0])
  return Sample(
    np.nanmean(values, 1), resample(values, units), int(known.sum()), len(np.unique(units[known]))
  )


def test_draws_are_those_of_a_slow_loop(monkeypatch):
  rng = np.random.default_rng(3)
  values = rng.random((4, 70))
  values[:, 5::7] = np.nan
  units = rng.integers(60, size=70)
  units = np.unique(units, return_inverse=True)[1]
  number = units.max() + 1
  monkeypatch.setattr(intervals, 'DRAWS', 25)
  monkeypatch.setattr(intervals, '_CHUNK', 7 * number)  # draws come in four parts
  found = resample(values, units)
  rng = np.random.default_rng(intervals.SEED)
  for draw in range(25):
    images = [
      i for unit in rng.integers(number, size=number) for i in np.flatnonzero(units == unit)
    ]
    expected = [np.nanmean([row[i] for i in images]) for row in values]
    np.testing.assert_allclose(found[draw], expected, rtol=1e-12)


def test_equal_seeds_give_the_percentile_interval_of_scipy():
  """With identical seeds only the images vary, as in SciPy's bootstrap."""
  values = np.random.default_rng(0).random(400) < 0.3
  found = interval(_sample([values] * 3))
  expected = stats.bootstrap(
    (values.astype(float),), np.mean, n_resamples=4000, method='percentile', rng=1
  ).confidence_interval
  np.testing.assert_allclose([found.low, found.high], expected, atol=0.004)


@pytest.mark.parametrize(
  ('seeds', 'of_seeds', 'of_images', 'of_both'),
  [(3, 0.1, 0.1, 0.1), (3, 0.02, 0.3, 0.3), (5, 0.05, 0.3, 0.3), (5, 0.0, 0.3, 0.3)],
)
def test_coverage(monkeypatch, seeds, of_seeds, of_images, of_both):
  """Differences with known variances over seeds and images are covered at the nominal rate."""
  monkeypatch.setattr(intervals, 'DRAWS', 500)
  rng, covered = np.random.default_rng(1), []
  for _ in range(200):
    values = 0.1 + rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, of_images, (1, 60))
    arm = rng.normal(0.5, 0.5, (seeds, 60))  # what both arms share cancels
    arms = np.concatenate([arm + values + rng.normal(0, of_both, values.shape), arm])
    draws, units = resample(arms, np.arange(60)), 60
    left, right = (
      Sample(arms[part].mean(1), draws[:, part], 60, units)
      for part in (slice(seeds), slice(seeds, None))
    )
    found = interval(left.minus(right))
    covered.append(found.low <= 0.1 <= found.high)
  assert 0.9 <= np.mean(covered) <= 0.995


def test_images_of_a_unit_are_drawn_together():
  """Ten copies of each image carry no more information than one."""
  values = np.random.default_rng(2).random((3, 80))
  once = interval(_sample(values))
  copies = np.repeat(values, 10, axis=1)
  together = interval(_sample(copies, np.repeat(np.arange(80), 10)))
  apart = interval(_sample(copies))
  assert together.units == 80 and together.images == 800
  assert (together.low, together.high) == pytest.approx((once.low, once.high))
  assert apart.high - apart.low < 0.75 * (once.high - once.low)


def test_proportions_stay_within_their_range():
  values = np.zeros((3, 100))
  values[0, :3] = values[1, 0] = 1
  found = interval(_sample(values), 0.0, 1.0)
  assert 0 == found.low < found.mean < found.high < 0.1
  same = interval(_sample(np.ones((4, 90))), 0.0, 1.0)
  assert (same.low, same.high) == (1, 1)


@pytest.mark.parametrize(
  ('seeds', 'images', 'reason'),
  [(5, 6, '6 images'), (2, 500, '2 seeds'), (1, 1, '1 image and a single seed')],
)
def test_too_little_gives_a_reason(seeds, images, reason):
  found = interval(_sample(np.full((seeds, images), 0.25)))
  assert (found.mean, found.low, found.high) == (0.25, None, None)
  assert found.reason == reason and not found.excludes_zero()
  of_units = interval(_sample(np.ones((5, 120)), np.arange(120) // 10))
  assert of_units.reason == '12 units of images'
  without = interval(Sample(np.full(seeds, 0.25), images=images))
  assert without.reason == reason


@pytest.mark.filterwarnings('ignore:Precision loss')
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8))
def test_without_values_of_images_it_is_students_t(means):
  found = interval(Sample(np.array(means)))
  expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
  if np.isfinite(expected).all():  # SciPy gives no interval if all values are equal
    np.testing.assert_allclose([found.low, found.high], expected, atol=1e-9)


@pytest.mark.parametrize(('images', 'half_width'), [(50, 11), (100, 7), (300, 4), (1000, 3)])
def test_how_many_images_it_takes(images, half_width):
  """The simulation reported in docs/own_data.md; half-widths in percentage points."""
  widths = []
  for seed in range(8):
    rng = np.random.default_rng(seed)
    hard, population = rng.random(images), rng.random((2, 20_000)).mean(0)
    right = np.concatenate(
      [
        (hard + rng.random((5, images))) / 2
        < np.quantile(population, accuracy) + rng.normal(0, 0.01, (5, 1))
        for accuracy in (0.80, 0.75)
      ]
    ).astype(float)
    draws = resample(right, np.arange(images))
    arms = [
      Sample(right[rows].mean(1), draws[:, rows], images, images)
      for rows in (slice(5), slice(5, None))
    ]
    found = interval(arms[0].minus(arms[1]))
    widths.append(100 * (found.high - found.low) / 2)
  assert np.median(widths) == pytest.approx(half_width, abs=0.6)
