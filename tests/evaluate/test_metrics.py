"""Metrics: average precision against scikit-learn, the sums of batches against NumPy."""

import functools
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from luab_jax.evaluate.metrics import (
  average_precision,
  average_precision_within,
  batch_sums,
  label_set_sums,
  learned_no_place,
  mean_average_precision,
)


@settings(deadline=None, max_examples=150)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_examples=st.integers(1, 60),
  levels=st.sampled_from([1, 2, 5, 1000]),
  positives=st.sampled_from([0.05, 0.5, 1.0]),
  dtype=st.sampled_from([np.float32, np.float64]),
)
def test_average_precision_is_scikit_learns(seed, num_examples, levels, positives, dtype):
  rng = np.random.default_rng(seed)
  # few levels: many ties
  scores = (rng.integers(0, levels, size=(num_examples, 4)) / levels - 0.5).astype(dtype)
  labels = (rng.uniform(size=scores.shape) < positives).astype(np.float32)
  result = average_precision(scores, labels)
  for c in range(4):
    if labels[:, c].any():
      expected = average_precision_score(labels[:, c], scores[:, c])
      assert result[c] == pytest.approx(expected, rel=1e-12)
    else:
      assert np.isnan(result[c])


@given(
  st.lists(
    st.tuples(st.floats(-(2.0**100), 2.0**100, width=32), st.booleans()), min_size=1, max_size=30
  ).filter(lambda rows: any(positive for _, positive in rows))
)
@settings(deadline=None, max_examples=100)
def test_average_precision_of_any_scores(rows):
  scores = np.array([[score] for score, _ in rows], np.float32)
  labels = np.array([[positive] for _, positive in rows])
  expected = average_precision_score(labels[:, 0], scores[:, 0])
  assert average_precision(scores, labels)[0] == pytest.approx(expected, rel=1e-12)


def test_average_precision_by_hand():
  scores = np.array([[0.9], [0.8], [0.8], [0.1]])
  labels = np.array([[1], [0], [1], [1]])
  # recall 1/3 at precision 1; then, after the tie, 2/3 at 2/3; then 1 at 3/4
  assert average_precision(scores, labels)[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_classes_without_positives_are_left_out_and_counted():
  scores, labels = [[1.0, 0, 3], [2, 0, 1]], [[0, 0, 1], [1, 0, 0]]
  per_class = average_precision(scores, labels)
  np.testing.assert_array_equal(per_class, [1, np.nan, 1])
  assert mean_average_precision(per_class) == (1.0, 1)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    mean, missing = mean_average_precision(np.full(3, np.nan))
  assert np.isnan(mean) and missing == 3


def test_average_precision_within_a_group_leaves_the_other_positives_out():
  scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
  labels = np.array([[1, 1], [0, 0], [1, 0], [0, 0]])
  group = np.array([[False, False], [True, True], [True, False], [False, False]])
  # Class 0: without the first row, the positive of the group ranks second of three. Being in the
  # group does not change a negative. Class 1 has no positive in the group.
  np.testing.assert_array_equal(average_precision_within(scores, labels, group), [0.5, np.nan])
  np.testing.assert_array_equal(
    average_precision_within(scores, labels, labels > 0), average_precision(scores, labels)
  )


@pytest.mark.parametrize(
  ('scores', 'labels', 'words'),
  [
    ([[np.nan]], [[1]], 'NaN'),
    ([[np.inf]], [[1]], 'infinite'),
    ([[0.5]], [[2]], 'neither 0 nor 1'),
    ([[0.5]], [[1, 0]], 'not both'),
    ([0.5], [1], 'not both'),
  ],
)
def test_average_precision_refuses(scores, labels, words):
  with pytest.raises(ValueError, match=words):
    average_precision(scores, labels)


def random_batch(rng, size, classes, points):
  outputs = {
    'logits': rng.normal(size=(size, classes)).astype(np.float32),
    'points': rng.uniform(size=(size, points, 2)).astype(np.float32),
  }
  mask = rng.integers(0, 2, size=(size, points)).astype(np.float32)
  batch = {
    'label': rng.integers(0, classes, size=size),
    'point': rng.uniform(size=(size, points, 2)).astype(np.float32) * mask[..., None],
    'point_mask': mask,
    'example_mask': np.ones(size, np.float32),
  }
  batch['example_mask'][-2:] = 0  # padding, whatever the other columns hold
  return outputs, batch


@pytest.mark.parametrize(('classes', 'points'), [(20, 1), (20, 8), (6, 1), (5, 1), (3, 1)])
def test_sums_against_numpy(classes, points):
  outputs, batch = random_batch(np.random.default_rng(0), 64, classes, points)
  sums = jax.jit(batch_sums, static_argnames='multi_label')(outputs, batch, multi_label=False)
  ranks = np.argsort(-outputs['logits'], axis=-1)[:62]
  label = batch['label'][:62, None]
  assert sums['top1'] == ((ranks[:, :1] == label).sum(), 62)
  if classes > 5:
    assert sums['top5'] == ((ranks[:, :5] == label).sum(), 62)
  else:  # it would always be 1
    assert 'top5' not in sums
  error = outputs['points'][:62] - batch['point'][:62]
  distance = np.hypot(error[..., 0], error[..., 1])
  used = batch['point_mask'][:62] == 1
  assert sums['click_error'][0] == pytest.approx(distance[used].sum(), rel=1e-5)
  assert sums['click_error'][1] == used.sum()
  assert sums['points_used'] == (used.sum(), 62 * points)


def test_constant_points_on_the_same_examples():
  outputs, batch = random_batch(np.random.default_rng(4), 20, 3, 2)
  assert 'click_error_centre' not in batch_sums(outputs, batch, multi_label=False)
  mean = np.array([[0.2, 0.4], [0.7, 0.1]], np.float32)
  batch['mean_point'] = np.broadcast_to(mean, batch['point'].shape)
  sums = batch_sums(outputs, batch, multi_label=False)
  used = batch['point_mask'][:18] == 1
  for name, points in (('centre', np.full((2, 2), 0.5)), ('mean', mean)):
    error = (points - batch['point'][:18])[used]
    total, count = sums[f'click_error_{name}']
    assert total == pytest.approx(np.hypot(*error.T).sum(), rel=1e-5)
    assert count == used.sum() == sums['click_error'][1]


def test_what_a_click_error_is_compared_with():
  metrics = {'click_error': 0.25, 'click_error_centre': 0.26, 'click_error_mean': 0.27}
  assert learned_no_place(metrics) == learned_no_place({'top1': 1.0}) == ''
  assert learned_no_place({'click_error': 0.5}) == ''  # training: there is nothing to compare
  said = 'the head has learned nothing about position: click error 0.260, always the centre 0.260'
  assert learned_no_place(metrics | {'click_error': 0.26}) == said
  assert learned_no_place(metrics | {'click_error_mean': 0.2}).endswith(
    'click error 0.250, always the mean training point 0.200'
  )


@pytest.mark.parametrize('classes', [5, 6])
def test_top5_of_label_sets_needs_six_classes(classes):
  outputs, batch = random_batch(np.random.default_rng(0), 8, classes, 1)
  labels = jax.nn.one_hot(batch['label'], classes, dtype=bool)
  mask = np.ones((8, classes), bool)
  sums = label_set_sums(outputs['logits'], batch | {'valid_labels': labels, 'class_mask': mask})
  assert ('top5' in sums) == (classes == 6)


def test_sums_of_batches_add_up_to_the_whole():
  outputs, batch = random_batch(np.random.default_rng(1), 40, 7, 2)
  sums = jax.jit(functools.partial(batch_sums, multi_label=False))
  whole = sums(outputs, batch)
  parts = [
    sums(*jax.tree.map(lambda x: x[start : start + 8], (outputs, batch)))  # noqa: B023
    for start in range(0, 40, 8)
  ]
  total = jax.tree.map(lambda *x: sum(x), *parts)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), total, whole)


def test_equal_logits_are_not_counted_as_correct():
  outputs, batch = random_batch(np.random.default_rng(2), 30, 10, 1)
  outputs['logits'] = np.zeros_like(outputs['logits'])
  sums = batch_sums(outputs, batch, multi_label=False)
  assert sums['top1'][0] == (batch['label'][:28] == 0).sum()
  assert sums['top5'][0] == (batch['label'][:28] < 5).sum()


def test_multi_label_has_point_metrics_only():
  outputs, batch = random_batch(np.random.default_rng(3), 6, 80, 80)
  batch['label'] = np.zeros((6, 80), np.float32)
  sums = batch_sums(outputs, batch, multi_label=True)
  assert set(sums) == {'click_error', 'points_used'}
  assert sums['points_used'] == (batch['point_mask'][:4].sum(), 320)
