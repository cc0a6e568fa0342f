"""Intervals of a study: a bootstrap over seeds and images, paired between arms.

A metric of an arm is a mean over images, averaged over seeds. Both are samples: of the training
runs that might have been done, and of the images that might have been in the test set. So each draw
resamples, with replacement, the seeds and, independently of them, the images; the images of a draw
are the same for every seed and every arm. For every seed, because all seeds are tested on the same
images: separate draws would average away most of the variance due to the choice of the test set
(Owen 2007, "The pigeonhole bootstrap", arXiv:0712.1111). For every arm, so that differences between
arms are paired. Images of one unit, such as composites of one object, are drawn together.

The interval is the percentile interval of the draws, widened about the mean: with few seeds,
percentiles are too narrow by sqrt((S - 1) / S) and by using normal instead of Student's t quantiles
(Hesterberg 2015, arXiv:1411.5279). The degrees of freedom are Satterthwaite's: between S - 1, if
seeds vary more than images, and the number of units minus one.

The thresholds of MaxBoxAccV2 are chosen on all images, not anew in each draw.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from luab_jax.evaluate.evidence import MIN_IMAGES, MIN_SEEDS

CONFIDENCE = 0.95
DRAWS = 2000
SEED = 0
_CHUNK = 1 << 23  # draws times units in memory at a time


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean over seeds with its interval.

  Attributes:
    mean: over the seeds.
    low, high: the ends; None if there is no interval.
    seeds, images, units: how many there are; images and units are 0 for what has no images.
    reason: '' or why there is no interval.
  """

  mean: float
  low: float | None
  high: float | None
  seeds: int
  images: int = 0
  units: int = 0
  reason: str = ''

  def excludes_zero(self) -> bool:
    """Whether there is an interval and 0 lies outside it."""
    return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

  def as_dict(self) -> dict[str, Any]:
    """For study.json."""
    return {**dataclasses.asdict(self), 'excludes_zero': self.excludes_zero()}


class Sample(NamedTuple):
  """A metric of an arm, or the difference of two, on resampled images.

  Attributes:
    means: f64[S], over all images, one per seed; NaN for a run without the metric.
    draws: f64[DRAWS,S], over resampled images; None for a metric without a value per image.
    images, units: see `Interval`.
  """

  means: np.ndarray
  draws: np.ndarray | None = None
  images: int = 0
  units: int = 0

  def minus(self, other: 'Sample') -> 'Sample':
    """The difference, paired by seed and image."""
    draws = None if self.draws is None or other.draws is None else self.draws - other.draws
    images, units = min(self.images, other.images), min(self.units, other.units)
    return Sample(self.means - other.means, draws, images, units)


def resample(values: np.ndarray, units: np.ndarray) -> np.ndarray:
  """Means over resampled units.

  Args:
    values: f[R,N], a row for each metric of each run; NaN where an image has no value.
    units: i64[N], the unit of each image, numbered from 0.
  Returns:
    f64[DRAWS,R]; each draw has the same units in all rows.
  """
  number = int(units.max()) + 1
  known = np.isfinite(values)
  sums, counts = (
    np.stack([np.bincount(units, row, number) for row in rows], axis=1)
    for rows in (np.where(known, values, 0.0), known)
  )
  rng, means = np.random.default_rng(SEED), []
  size = max(_CHUNK // number, 1)
  for start in range(0, DRAWS, size):
    draws = min(size, DRAWS - start)
    picked = rng.integers(number, size=(draws, number)) + number * np.arange(draws)[:, None]
    times = np.bincount(picked.ravel(), minlength=draws * number).reshape(draws, number)
    times = times.astype(np.float64)
    with np.errstate(invalid='ignore'):  # 0 / 0: none of the few images with a value was drawn
      means.append((times @ sums) / (times @ counts))
  return np.concatenate(means)


def interval(sample: Sample, lowest: float = -np.inf, highest: float = np.inf) -> Interval:
  """The mean of a sample and its interval, or the reason why it has none.

  Without values per image, it is Student's t interval over the seeds alone.

  Args:
    sample: with at least one seed.
    lowest, highest: bounds of a mean, such as 0 and 1 for a proportion.
  """
  means = sample.means[np.isfinite(sample.means)]
  mean = float(means.mean())
  counts = len(means), sample.images, sample.units
  if reason := _too_few(*counts):
    return Interval(mean, None, None, *counts, reason)
  if sample.draws is None:
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(means) - 1) * stats.sem(means))
    ends = mean - half, mean + half
  else:
    ends = _bootstrap(sample, mean)
  low, high = (float(np.clip(end, lowest, highest)) for end in ends)
  return Interval(mean, low, high, *counts)


def _too_few(seeds: int, images: int, units: int) -> str:
  reasons = []
  if 0 < images < MIN_IMAGES:
    reasons.append(f'{images} image{"s" * (images > 1)}')
  elif 0 < units < MIN_IMAGES:
    reasons.append(f'{units} unit{"s" * (units > 1)} of images')
  if seeds < MIN_SEEDS:
    reasons.append('a single seed' if seeds == 1 else f'{seeds} seeds')
  return ' and '.join(reasons)


def _bootstrap(sample: Sample, mean: float) -> tuple[float, float]:
  seeds = len(sample.means)
  assert sample.draws is not None
  picked = np.random.default_rng([SEED, 1]).integers(seeds, size=(DRAWS, seeds))
  draws = np.take_along_axis(sample.draws, picked, axis=1).mean(1)
  tail = (1 - CONFIDENCE) / 2
  low, high = np.nanquantile(draws, [tail, 1 - tail])
  # Variances of the mean due to the choice of the seeds, and due to that of the units.
  variances = sample.means.var(ddof=1) / seeds, np.nanvar(sample.draws.mean(1), ddof=1)
  freedom = variances[0] ** 2 / (seeds - 1) + variances[1] ** 2 / (sample.units - 1)
  if not freedom:  # every seed and every unit has the same value
    return low, high
  quantile = stats.t.ppf(1 - tail, sum(variances) ** 2 / freedom)
  spread = quantile * np.sqrt(sum(variances)) / (stats.norm.ppf(1 - tail) * np.nanstd(draws))
  widened = max(float(spread), 1.0)
  return mean + widened * (low - mean), mean + widened * (high - mean)
