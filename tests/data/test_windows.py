"""Random crops equal torchvision's, draw by draw and in distribution; flips are a fair coin."""

import math
import random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from luab_jax.data import geometry

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def torchvision_window(draw, height, width, scale=SCALE, ratio=RATIO):
  """`RandomResizedCrop.get_params` of torchvision, step by step.

  Args:
    draw: function name -> next uniform number in [0, 1) for 'area', 'ratio', 'top' or 'left'.

  Returns:
    (top, left, height, width), and how many tries it took (None: the fallback).
  """
  area = height * width
  for tries in range(1, 11):
    target_area = area * (scale[0] + draw('area') * (scale[1] - scale[0]))
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    aspect = math.exp(log_ratio[0] + draw('ratio') * (log_ratio[1] - log_ratio[0]))
    w = round(math.sqrt(target_area * aspect))
    h = round(math.sqrt(target_area / aspect))
    top, left = draw('top'), draw('left')
    if 0 < w <= width and 0 < h <= height:
      return (int(top * (height - h + 1)), int(left * (width - w + 1)), h, w), tries
  in_ratio = width / height
  if in_ratio < min(ratio):
    w, h = width, round(width / min(ratio))
  elif in_ratio > max(ratio):
    h, w = height, round(height * max(ratio))
  else:
    w, h = width, height
  return ((height - h) // 2, (width - w) // 2, h, w), None


def sample(seed, height, width, **options):
  return tuple(int(v) for v in geometry.sample_window(seed, height, width, **options))


def in_tf_data(function, *columns):
  """Maps over the rows of columns inside tf.data; returns stacked numpy columns."""
  dataset = tf.data.Dataset.from_tensor_slices(columns).map(function).batch(len(columns[0]))
  return next(dataset.as_numpy_iterator())


sizes = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(
  sizes,
  sizes,
  st.integers(0, 2**31),
  st.sampled_from([SCALE, (0.9, 1.0), (0.01, 0.02)]),
  st.sampled_from([RATIO, (1.0, 1.0), (0.2, 5.0)]),
)
def test_same_draws_give_torchvisions_window(height, width, seed, scale, ratio):
  numbers = np.array(tf.random.stateless_uniform([4, 10], [seed, 7], dtype=tf.float64))
  queues = {name: iter(numbers[i]) for i, name in enumerate(('area', 'ratio', 'top', 'left'))}
  expected, _ = torchvision_window(
    lambda name: float(next(queues[name])), height, width, scale, ratio
  )
  window = sample([seed, 7], height, width, scale=scale, ratio=ratio)
  if min(expected[2:]) == 0:  # torchvision's fallback rounds a 1 px side to 0 and crashes later
    assert min(window[2:]) == 1
    return
  assert window == expected
  top, left, h, w = window
  assert 0 <= top <= height - h and 0 <= left <= width - w and h >= 1 and w >= 1


@pytest.mark.parametrize(('height', 'width'), [(375, 500), (40, 37), (60, 400), (500, 30)])
def test_windows_are_distributed_as_torchvisions(height, width):
  count = 3000
  rng = random.Random(0)
  theirs = np.array(
    [torchvision_window(lambda _: rng.random(), height, width)[0] for _ in range(count)]
  )
  ours = np.stack(
    in_tf_data(
      lambda i: tuple(geometry.sample_window(tf.stack([i, 3]), height, width)),
      np.arange(count, dtype=np.int64),
    ),
    axis=1,
  )

  def figures(windows):
    top, left, h, w = windows.T.astype(float)
    # A little noise breaks ties between integers, which the KS test does not allow.
    noise = np.random.default_rng(0).uniform(0, 1, (5, count))
    return np.stack([h * w, w / h, top, left, h]) + noise * np.array([[1], [1e-3], [1], [1], [1]])

  fallback = tuple(torchvision_window(lambda _: 0.999999, height, width)[0])
  share = [np.mean((w == fallback).all(axis=1)) for w in (ours, theirs)]
  assert abs(share[0] - share[1]) < 0.04
  for a, b in zip(figures(ours), figures(theirs), strict=True):
    assert stats.ks_2samp(a, b, method='asymp').pvalue > 1e-3


def test_long_images_fall_back_to_the_centre():
  # No area share of at least 0.08 of 10 x 1000 fits 10 px of height at a ratio of at most 4/3.
  assert sample([0, 0], 10, 1000) == (0, 493, 10, 13)
  assert sample([0, 0], 1000, 10) == (493, 0, 13, 10)
  # Nor does the whole area of 100 x 200 at ratio 1: the ratio is clamped to the nearer limit.
  assert sample([0, 0], 100, 200, scale=(1.0, 1.0), ratio=(1.0, 1.0)) == (0, 50, 100, 100)


def test_window_depends_on_the_seed_alone():
  windows = [sample([s, 0], 300, 200) for s in range(50)]
  assert windows == [sample([s, 0], 300, 200) for s in range(50)]
  assert len(set(windows)) > 45
  top, left, h, w = in_tf_data(
    lambda s: tuple(geometry.sample_window(tf.stack([s, 0]), 300, 200)),
    np.arange(50, dtype=np.int32),
  )
  assert windows == list(zip(top, left, h, w, strict=True))


def test_flip_is_a_fair_coin():
  flips, _ = in_tf_data(lambda s: (geometry.sample_flip(tf.stack([s, 0])), s), np.arange(2000))
  assert 900 < flips.sum() < 1100
  assert [bool(geometry.sample_flip([s, 0])) for s in range(20)] == flips[:20].tolist()
