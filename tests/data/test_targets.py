"""From byproduct columns to points: reductions of clicks, icons, traces, labels, controls."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data import controls, targets
from tests import painted_data

NAMES = [f'class {i}' for i in range(5)]


def columns(points, times, blocks):
  """One example's click or trace columns as tensors."""
  rows = painted_data.rows(points, times, blocks)
  kinds = {'x': tf.float32, 'y': tf.float32, 'time_ms': tf.int64, 'block': tf.int32}
  return {key: tf.constant(rows[key], kinds[key]) for key in kinds}


def click(clicks, selected, how):
  point, has = targets.click_point(clicks, tf.constant(selected, tf.bool), how)
  assert point.shape == (1, 2) and has.shape == (1,)
  return point.numpy()[0].tolist(), float(has[0])


def test_reductions_of_clicks():
  t = 1_640_000_000_000  # ms since the epoch: float32 cannot tell neighbours apart
  clicks = columns(
    [(0.125, 0.25), (0.25, 0.5), (0.5, 0.5), (0.75, 1.0)],
    [t + 5, t + 6, t + 1, t + 3],
    [0, 0, 1, 2],
  )
  # Block 1 was not selected when the page was submitted: its click does not count.
  assert click(clicks, [True, False, True], 'mean') == ([(0.125 + 0.75) / 2, (0.25 + 1) / 2], 1)
  assert click(clicks, [True, False, True], 'first') == ([0.75, 1.0], 1)
  assert click(clicks, [True, False, True], 'last') == ([0.25, 0.5], 1)
  assert click(clicks, [True, True, True], 'first') == ([0.5, 0.5], 1)
  for how in targets.CLICKS:
    assert click(clicks, [False, False, False], how) == ([0, 0], 0)
    assert click(columns([], [], []), [], how) == ([0, 0], 0)
    assert click(columns([], [], []), [True], how) == ([0, 0], 0)  # selected, no click kept
    broken = columns([(np.nan, 0.5), (0.25, 0.25)], [t, t + 1], [0, 0])
    assert click(broken, [True], how) == ([0.25, 0.25], 1)


def authors_mean(blocks):
  """The rule of the authors' code: the mean of the first clicks of the selected metadata blocks."""
  firsts = [clicks[0] for selected, clicks in blocks if selected and clicks]
  if not firsts:
    return (0, 0), 0
  return (sum(c[0] for c in firsts) / len(firsts), sum(c[1] for c in firsts) / len(firsts)), 1


coordinates = st.integers(-50, 1050).map(lambda v: v / 1000)
blocks_strategy = st.lists(
  st.tuples(st.booleans(), st.lists(st.tuples(coordinates, coordinates), max_size=4)), max_size=5
)


@settings(max_examples=50, deadline=None)
@given(blocks_strategy)
def test_mean_agrees_with_the_authors(blocks):
  rows = [(c, 10 * i + j, i) for i, (_, clicks) in enumerate(blocks) for j, c in enumerate(clicks)]
  clicks = columns(*(zip(*rows, strict=True) if rows else ([], [], [])))
  point, has = click(clicks, [selected for selected, _ in blocks], 'mean')
  expected, weight = authors_mean(blocks)
  assert has == weight
  np.testing.assert_allclose(point, expected, atol=1e-5)


def numpy_trace(trace, clicks, selected, num_points):
  """The definition of targets.trace_points, with np.interp."""
  nothing = np.zeros((num_points, 2)), 0
  if True not in selected:
    return nothing
  block = selected.index(True)
  first_clicks = sorted((c for c in clicks if c[2] == block), key=lambda c: c[1])
  if not first_clicks:
    return nothing
  end = first_clicks[0]
  path = sorted((s for s in trace if s[2] == block and s[1] <= end[1]), key=lambda s: s[1])
  if not path:
    return nothing
  times = [s[1] - path[0][1] for s in (*path, end)]
  wanted = np.linspace(0, times[-1], num_points)
  return np.stack(
    [np.interp(wanted, times, [s[0][k] for s in (*path, end)]) for k in (0, 1)], axis=1
  ), 1


samples = st.lists(
  st.tuples(st.tuples(coordinates, coordinates), st.integers(0, 60_000), st.integers(0, 2)),
  max_size=12,
  unique_by=lambda s: s[1],
)


@settings(max_examples=50, deadline=None)
@given(samples, samples, st.lists(st.booleans(), min_size=3, max_size=3), st.integers(2, 9))
def test_traces_are_resampled_evenly_in_time(trace, clicks, selected, num_points):
  t = 1_640_000_000_000
  as_columns = [
    columns(*zip(*[(p, t + 2 * time + odd, b) for p, time, b in rows], strict=True))
    if rows
    else columns([], [], [])
    for odd, rows in ((0, trace), (1, clicks))
  ]
  points, has = targets.trace_points(*as_columns, tf.constant(selected), num_points)
  expected, known = numpy_trace(
    [(p, 2 * time, b) for p, time, b in trace],
    [(p, 2 * time + 1, b) for p, time, b in clicks],
    selected,
    num_points,
  )
  assert has.numpy().tolist() == [known] * num_points
  np.testing.assert_allclose(points, expected, atol=1e-4)


def test_trace_by_hand():
  t = 1_640_000_000_000
  trace = columns([(0.0, 0.0), (0.4, 0.2), (0.9, 0.9)], [t, t + 100, t + 500], [1, 1, 1])
  clicks = columns([(0.4, 1.0), (0.0, 0.0)], [t + 300, t + 900], [1, 1])
  points, has = targets.trace_points(trace, clicks, tf.constant([False, True]), 4)
  # At 0, 100, 200 and 300 ms; the sample at 500 ms came after the click.
  np.testing.assert_allclose(points, [(0, 0), (0.4, 0.2), (0.4, 0.6), (0.4, 1.0)], atol=1e-6)
  assert has.numpy().tolist() == [1, 1, 1, 1]
  for selected in ([False, False], [True, True]):  # none; the first one selected has no trace
    points, has = targets.trace_points(trace, clicks, tf.constant(selected), 4)
    assert not points.numpy().any() and not has.numpy().any()


def coco_columns(icons, actions):
  return {
    'icons': {
      'label': tf.constant([i[0] for i in icons], tf.int64),
      'x': tf.constant([i[1] for i in icons], tf.float32),
      'y': tf.constant([i[2] for i in icons], tf.float32),
    },
    'actions': {
      'action': tf.constant([a[0] for a in actions], tf.int64),
      'icon': tf.constant([a[1] for a in actions], tf.string),
      'to_x': tf.constant([a[2] for a in actions], tf.float32),
      'to_y': tf.constant([a[3] for a in actions], tf.float32),
    },
  }


def test_icon_policies():
  add, move, remove = 0, 1, 2
  example = coco_columns(
    icons=[(1, 0.3, 0.4), (3, -0.05, 0.5)],
    actions=[
      (add, 'class 1', 0.1, 0.2),
      (move, 'class 1', 0.3, 0.4),
      (add, 'class 2', 0.5, 0.6),
      (remove, 'class 2', np.nan, np.nan),
      (add, 'class 3', 0.9, 0.9),
      (remove, 'class 3', np.nan, np.nan),
      (add, 'class 3', -0.05, 0.5),
      (add, 'unicorn', 0.7, 0.7),
    ],
  )
  points, has = targets.icon_points(example, NAMES, add, 'replayed')
  assert has.numpy().tolist() == [0, 1, 0, 1, 0]
  np.testing.assert_allclose(points, [(0, 0), (0.3, 0.4), (0, 0), (-0.05, 0.5), (0, 0)])
  points, has = targets.icon_points(example, NAMES, add, 'adds_only')
  assert has.numpy().tolist() == [0, 1, 1, 1, 0]
  np.testing.assert_allclose(points, [(0, 0), (0.1, 0.2), (0.5, 0.6), (-0.05, 0.5), (0, 0)])
  for how in targets.ICONS:
    points, has = targets.icon_points(coco_columns([], []), NAMES, add, how)
    assert not points.numpy().any() and not has.numpy().any() and points.shape == (5, 2)


def test_labels():
  assert targets.multi_hot(tf.constant([4, 1], tf.int64), 5).numpy().tolist() == [0, 1, 0, 0, 1]
  assert targets.multi_hot(tf.constant([], tf.int64), 5).numpy().tolist() == [0] * 5
  # An instance without an icon, with one inside, with one cropped away; icons without an instance.
  label, has, kept = [1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 1, 0, 1, 0]
  dropped = targets.drop_cropped_labels(*(tf.constant(v, tf.float32) for v in (label, has, kept)))
  assert dropped.numpy().tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize('per_column', [True, False])
def test_permutation_keeps_who_has_one_and_what_there_is(per_column):
  rng = np.random.default_rng(0)
  has = (rng.uniform(size=(400, 3)) < 0.4).astype(np.float32)
  if not per_column:
    has[:] = has[:, :1]
  points = rng.uniform(size=(400, 3, 2)).astype(np.float32) * has[..., None]
  moved = controls.permute(points, has, np.random.default_rng(1), per_column=per_column)
  again = controls.permute(points, has, np.random.default_rng(1), per_column=per_column)
  other = controls.permute(points, has, np.random.default_rng(2), per_column=per_column)
  np.testing.assert_array_equal(moved, again)
  assert (moved != other).any()
  assert not moved[has == 0].any()
  for k in range(3):
    before, after = points[has[:, k] > 0, k], moved[has[:, k] > 0, k]
    assert (before == after).all(axis=1).mean() < 0.1
    assert sorted(map(tuple, before)) == sorted(map(tuple, after))
  rows = set(map(bytes, points)) == set(map(bytes, moved))
  assert rows != per_column  # traces stay whole, classes are mixed


def test_uniform_points_leave_those_outside_alone():
  points = tf.constant([[0.5, 0.5], [1.2, 0.5], [0.0, 1.0]])
  moved = controls.uniform_points(points, [1, 2]).numpy()
  assert moved[1].tolist() == points[1].numpy().tolist()
  assert (moved[[0, 2]] != points.numpy()[[0, 2]]).all()
  many = controls.uniform_points(tf.fill([4000, 2], 0.3), [3, 4]).numpy()
  assert np.abs(np.histogram(many, 10, (0, 1))[0] - 800).max() < 120
