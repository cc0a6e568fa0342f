"""Map losses against NumPy and hand-computed values; masks, borders, extreme logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import special

from luab_jax.errors import UserError
from luab_jax.models.map_losses import (
  check_map_loss,
  cross_entropy,
  gaussian_target,
  map_logits,
  map_sum,
  notices,
)


def loss_config(kind, **changes):
  loss = {'map_loss': kind, 'map_sigma': 0.08, 'map_radius': 0.2, 'map_weight': 0.3}
  return ConfigDict({**loss, 'point_weight': 0.0, **changes})


@functools.partial(jax.jit, static_argnames=('kind', 'sigma', 'radius'))
def compiled(logits, point, mask, *, kind, sigma, radius):
  loss = loss_config(kind, map_sigma=sigma, map_radius=radius)
  return jax.value_and_grad(lambda x: map_sum(x, point, mask, loss), has_aux=True)(logits)


def value_and_gradient(logits, point, mask, *, kind, sigma=0.08, radius=0.2):
  return jax.device_get(compiled(logits, point, mask, kind=kind, sigma=sigma, radius=radius))


def reference(kind, logits, point, sigma=0.08, radius=0.2):
  """The losses f64[B,K], written out."""
  height, width = logits.shape[1:3]
  y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
  maps = special.softmax(logits.astype(np.float64), axis=(1, 2))
  losses = np.zeros((len(logits), logits.shape[3]))
  for b, k in np.ndindex(losses.shape):
    distance = np.hypot(x - point[b, k, 0], y - point[b, k, 1])
    bump = np.exp(-(distance**2) / (2 * sigma**2))
    if kind == 'gaussian':
      losses[b, k] = -(bump / bump.sum() * np.log(maps[b, :, :, k])).sum()
    elif kind == 'energy':
      losses[b, k] = 1 - (maps[b, :, :, k] * bump / bump.max()).sum()
    else:
      losses[b, k] = maps[b, :, :, k][distance > radius].sum()
  return losses


KINDS = ('gaussian', 'energy', 'background')


@pytest.mark.parametrize('kind', KINDS)
def test_a_map_loss_is_its_formula(kind):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(4, 6, 9, 3)).astype(np.float32) * 3  # a trace of three points
  point = rng.random((4, 3, 2)).astype(np.float32)
  mask = rng.integers(0, 2, (4, 3)).astype(np.float32) * 0.7  # fractional weights, as in MixUp
  options = {'kind': kind, 'sigma': 0.12, 'radius': 0.3}
  (total, count), gradient = value_and_gradient(logits, point, mask, **options)
  expected = reference(kind, logits, point, 0.12, 0.3)
  assert total == pytest.approx((expected * mask).sum(), rel=1e-4)
  assert count == pytest.approx(mask.sum())
  # The content of a masked slot affects neither the loss nor the gradient.
  logits[np.broadcast_to(mask[:, None, None] == 0, logits.shape)] = 7
  point[mask == 0] = 9
  (same, _), _ = value_and_gradient(logits, point, mask, **options)
  assert same == pytest.approx(float(total), rel=1e-6)
  counts = np.broadcast_to(mask[:, None, None], gradient.shape) > 0
  assert not gradient[~counts].any() and np.abs(gradient).sum((1, 2))[mask > 0].min() > 0


def test_the_target_of_a_heat_map_is_the_map_on_the_grid():
  rng = np.random.default_rng(1)
  heat = rng.integers(0, 256, (3, 32, 32)).astype(np.uint8)
  heat[1] = 0  # there was a click, but no heat is left in the view
  logits = rng.normal(size=(3, 4, 6, 1)).astype(np.float32)
  mask = np.float32([[1], [1], [0.25]])
  total, count = map_sum(logits, np.zeros((3, 1, 2)), mask, loss_config('heatmap'), heat)
  expected = 0.0
  for b in (0, 2):
    small = Image.fromarray(heat[b].astype(np.float32)).resize((6, 4), Image.Resampling.BILINEAR)
    log_map = special.log_softmax(logits[b, ..., 0].astype(np.float64))
    target = np.asarray(small) / np.asarray(small).sum()
    expected -= (target * log_map).sum() * mask[b, 0]
  assert total == pytest.approx(expected, rel=1e-4)
  assert count == 1.25


def test_hand_computed_values_on_four_cells():
  logits = np.log(np.float32([[1, 2], [3, 4]]) / 10)[None, :, :, None]  # a map of 0.1 … 0.4
  one = np.ones((1, 1), np.float32)
  corner = np.float32([[[0.25, 0.75]]])  # (x, y): the centre of the lower left cell, of mass 0.3
  background, _ = value_and_gradient(logits, corner, one, kind='background', radius=0.6)
  assert background[0] == pytest.approx(0.2)  # only the opposite cell, 0.707 away
  # With sigma 0.5, cells 0.5 and 0.707 away have the weights exp(-1/2) and exp(-1).
  near, far = np.exp(-0.5), np.exp(-1)
  energy, _ = value_and_gradient(logits, corner, one, kind='energy', sigma=0.5)
  assert energy[0] == pytest.approx(1 - (0.3 + near * (0.1 + 0.4) + far * 0.2), rel=1e-5)
  gaussian, _ = value_and_gradient(logits, corner, one, kind='gaussian', sigma=0.5)
  logs = np.log([0.3, 0.1, 0.4, 0.2]) * [1, near, near, far]
  assert gaussian[0] == pytest.approx(-logs.sum() / (1 + 2 * near + far), rel=1e-5)


@pytest.mark.parametrize('point', [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.31, 0.02)])
@pytest.mark.parametrize('sigma', [0.01, 0.08, 1.0])
def test_the_gaussian_is_normalised_and_peaks_at_the_point_also_at_the_border(point, sigma):
  y, x = (np.mgrid[:12, :12] + 0.5) / 12
  distance = np.hypot(x - point[0], y - point[1]).astype(np.float32)[None, ..., None]
  target = np.asarray(gaussian_target(distance, sigma))
  assert target.sum() == pytest.approx(1, rel=1e-5)
  assert target.ravel()[distance.argmin()] == target.max()
  # A map that equals the target has the smallest possible loss, the entropy of the target.
  least = -special.xlogy(target, target).sum()
  match = cross_entropy(jnp.log(jnp.maximum(target, 1e-30)), target)
  assert match == pytest.approx(least, abs=1e-4)
  assert cross_entropy(jnp.zeros_like(target), target) == pytest.approx(np.log(144), rel=1e-5)


@pytest.mark.parametrize('kind', ['energy', 'background'])
def test_a_map_on_the_nearest_cell_has_no_loss_on_a_coarse_grid(kind):
  logits = np.full((1, 3, 3, 1), -1e4, np.float32)
  logits[0, 1, 1] = 0
  point = np.float32([[[0.34, 0.34]]])  # a corner of the middle cell, 0.23 from its centre
  (total, _), _ = value_and_gradient(logits, point, np.ones((1, 1), np.float32), kind=kind)
  assert total == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_extreme_logits_keep_loss_and_gradient_finite(kind):
  logits = np.full((2, 4, 4, 1), -1e4, np.float32)
  logits[0, 0, 0], logits[1, 3, 3] = 1e4, 1e4
  point = np.tile(np.float32([0.1, 0.1]), (2, 1, 1))
  (total, _), gradient = value_and_gradient(logits, point, np.ones((2, 1), np.float32), kind=kind)
  assert np.isfinite(total) and np.isfinite(gradient).all()
  assert total == pytest.approx(2e4 if kind == 'gaussian' else 1, rel=0.2)


@pytest.mark.parametrize('kind', KINDS)
def test_no_point_at_all_is_zero(kind):
  logits, point = np.ones((2, 3, 3, 1), np.float32), np.zeros((2, 1, 2), np.float32)
  (total, count), gradient = value_and_gradient(logits, point, np.zeros((2, 1)), kind=kind)
  assert total == 0 and count == 0 and not gradient.any()


def test_losses_of_bfloat16_maps_are_float32():
  logits, point = jnp.zeros((2, 4, 4, 1), jnp.bfloat16), jnp.full((2, 1, 2), 0.4)
  total, count = map_sum(logits, point, jnp.ones((2, 1)), loss_config('gaussian'))
  assert total.dtype == count.dtype == jnp.float32
  assert total == pytest.approx(2 * np.log(16), rel=1e-6)


def test_which_maps_are_compared():
  rng = np.random.default_rng(0)
  cam, maps = rng.normal(size=(2, 2, 3, 3, 5)).astype(np.float32)
  label = jnp.array([4, 1])
  linear, spatial = {'cam': cam}, {'cam': cam, 'map_logits': maps}
  np.testing.assert_array_equal(map_logits(spatial, label, multi_label=False), maps)
  np.testing.assert_array_equal(map_logits(linear, None, multi_label=True), cam)
  of_label = map_logits(linear, label, multi_label=False)
  assert of_label.shape == (2, 3, 3, 1)
  np.testing.assert_array_equal(of_label[1, ..., 0], cam[1, ..., 1])


@pytest.mark.parametrize(
  ('changes', 'word'),
  [
    ({'map_loss': 'rao'}, 'loss.map_loss: unknown .* none, gaussian, energy, background, heatmap'),
    ({'map_sigma': 0.0}, 'loss.map_sigma: 0.0'),
    ({'map_sigma': 1.5}, 'loss.map_sigma: 1.5'),
    ({'map_radius': -0.1}, 'loss.map_radius: -0.1'),
    ({'map_radius': float('nan')}, 'loss.map_radius: nan'),
  ],
)
def test_a_wrong_setting_is_named(changes, word):
  check_map_loss(loss_config('gaussian'))
  with pytest.raises(UserError, match=word):
    check_map_loss(loss_config('gaussian', **changes))


def test_weights_that_few_mean_are_told():
  assert notices(loss_config('gaussian')) == []
  assert notices(loss_config('none', point_weight=30.0, map_weight=30.0)) == []
  (line,) = notices(loss_config('gaussian', point_weight=30.0))
  assert line.startswith(
    "loss.point_weight=30 and loss.map_loss='gaussian' both train on the clicks"
  )
  (line,) = notices(loss_config('energy', map_weight=30.0))
  assert line.startswith('loss.map_weight=30 is large')
