"""The joint loss: masks, and values against PyTorch's formulas written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models.losses import check_loss, classification_sum, point_sum, point_weight_schedule

MASK = np.array([1, 0, 1, 1], np.float32)


def softmax_examples():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(4, 6)).astype(np.float32) * 5
  label = np.array([5, 0, 2, 2])
  log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
  return logits, label, log_p


def test_softmax_cross_entropy():
  logits, label, log_p = softmax_examples()
  total, count = classification_sum(logits, label, MASK, multi_label=False)
  expected = -(log_p[np.arange(4), label] * MASK).sum()
  assert total == pytest.approx(expected, rel=1e-5) and count == 3


def test_label_smoothing_is_pytorchs():
  logits, label, log_p = softmax_examples()
  total, _ = classification_sum(logits, label, MASK, multi_label=False, label_smoothing=0.1)
  each = -0.9 * log_p[np.arange(4), label] - 0.1 * log_p.mean(-1)
  assert total == pytest.approx((each * MASK).sum(), rel=1e-5)


def test_sigmoid_cross_entropy_is_averaged_over_classes():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(4, 80)).astype(np.float32) * 3
  label = rng.integers(0, 2, size=(4, 80)).astype(np.float32)
  p = 1 / (1 + np.exp(-logits.astype(np.float64)))
  each = -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean(-1)
  total, count = classification_sum(logits, label, MASK, multi_label=True)
  assert total == pytest.approx((each * MASK).sum(), rel=1e-5) and count == 3


@pytest.mark.parametrize('multi_label', [False, True])
def test_extreme_logits_keep_loss_and_gradient_finite(multi_label):
  logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
  label = jnp.array([[0.0, 1], [0, 1]]) if multi_label else jnp.array([1, 1])
  value, gradient = jax.value_and_grad(
    lambda x: classification_sum(x, label, jnp.ones(2), multi_label=multi_label)[0]
  )(logits)
  assert value == pytest.approx(1e4 if multi_label else 2e4)
  assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0


def test_bfloat16_logits_are_summed_in_float32():
  logits = jnp.zeros((1024, 2), jnp.bfloat16)
  total, count = classification_sum(logits, jnp.zeros(1024, int), jnp.ones(1024), multi_label=False)
  assert total.dtype == count.dtype == jnp.float32
  assert total == pytest.approx(1024 * np.log(2), rel=1e-6)


def reference_point_loss(error, kind, beta):
  """torch.nn.functional's smooth_l1_loss, l1_loss and mse_loss with reduction='none'."""
  if kind == 'l1':
    return abs(error)
  if kind == 'l2':
    return error**2
  return np.where(abs(error) < beta, 0.5 * error**2 / beta, abs(error) - 0.5 * beta)


@functools.partial(jax.jit, static_argnames='kind')
def point_loss_and_gradient(points, point, mask, *, kind, beta):
  def loss(points):
    return point_sum(points, point, mask, kind=kind, beta=beta)

  return jax.value_and_grad(loss, has_aux=True)(points)


@settings(deadline=None, max_examples=30)
@given(
  seed=st.integers(0, 2**32 - 1),
  kind=st.sampled_from(['smooth_l1', 'l1', 'l2']),
  beta=st.sampled_from([0.1, 2.0]),
)
def test_point_loss(seed, kind, beta):
  rng = np.random.default_rng(seed)
  points, point = rng.uniform(-1, 2, size=(2, 3, 5, 2)).astype(np.float32)
  mask = rng.integers(0, 2, size=(3, 5)).astype(np.float32)
  (total, count), _ = point_loss_and_gradient(points, point, mask, kind=kind, beta=beta)
  each = reference_point_loss((points - point).astype(np.float64), kind, beta).mean(-1)
  assert total == pytest.approx((each * mask).sum(), rel=1e-4, abs=1e-6)
  assert count == mask.sum()
  # The content of a masked slot affects neither the loss nor the gradient.
  point[mask == 0] = 77
  (same, _), gradient = point_loss_and_gradient(points, point, mask, kind=kind, beta=beta)
  gradient = np.asarray(gradient)
  assert same == total
  assert not gradient[mask == 0].any()
  assert (np.abs(gradient).sum(-1)[mask == 1] > 0).all()


def test_no_point_at_all():
  total, count = point_sum(jnp.ones((2, 1, 2)), jnp.zeros((2, 1, 2)), jnp.zeros((2, 1)), kind='l2')
  assert total == 0 and count == 0


def test_sums_over_unequal_parts_give_the_whole():
  rng = np.random.default_rng(2)
  points, point = rng.uniform(size=(2, 8, 3, 2)).astype(np.float32)
  mask = np.zeros((8, 3), np.float32)
  mask[0], mask[5, 1] = 1, 1  # four points, three of them on the first "device"
  whole = point_sum(points, point, mask, kind='smooth_l1')
  parts = [
    point_sum(points[i : i + 2], point[i : i + 2], mask[i : i + 2], kind='smooth_l1')
    for i in range(0, 8, 2)
  ]
  np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-6)
  assert [int(count) for _, count in parts] == [3, 0, 1, 0]


def test_point_weight_schedules():
  constant = point_weight_schedule('constant', 3.0, total_steps=100)
  warmup = point_weight_schedule('warmup', 3.0, total_steps=100, warmup_steps=10)
  cosine = point_weight_schedule('cosine', 3.0, total_steps=100)
  steps = [0, 5, 10, 50, 100, 1000]
  np.testing.assert_allclose([constant(s) for s in steps], [3] * 6)
  np.testing.assert_allclose([warmup(s) for s in steps], [0, 1.5, 3, 3, 3, 3])
  np.testing.assert_allclose(
    [cosine(s) for s in steps],
    [3, *(1.5 * (1 + np.cos(np.pi * np.array([0.05, 0.1, 0.5, 1])))), 0],
    atol=1e-6,
  )
  # the same inside a compiled step
  assert jax.jit(warmup)(jnp.array(5)) == pytest.approx(1.5)


def test_a_wrong_setting_is_named():

  def check(multi_label=False, **changes):
    loss = {'label_smoothing': 0.1, 'point_loss': 'smooth_l1', 'smooth_l1_beta': 1.0}
    loss |= {'map_loss': 'none', 'map_sigma': 0.08, 'map_radius': 0.2}
    check_loss(ConfigDict(loss | changes), multi_label=multi_label)

  check()
  for call, word in [
    (lambda: check(point_loss='huber'), 'loss.point_loss'),
    (lambda: check(smooth_l1_beta=0.0), 'smooth_l1_beta'),
    (lambda: check(label_smoothing=1.0), 'loss.label_smoothing'),
    (lambda: check(multi_label=True), 'multi-label'),
    (lambda: point_weight_schedule('linear', 1.0, total_steps=9), 'loss.point_schedule'),
    (lambda: point_weight_schedule('warmup', 1.0, total_steps=9), 'loss.point_warmup_steps'),
    (lambda: point_weight_schedule('constant', -1.0, total_steps=9), 'loss.point_weight'),
  ]:
    with pytest.raises(UserError, match=word):
      call()
