"""Heads: their inputs, their points, their initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models.heads import LinearHead, SpatialHead
from tests.small_models import abstract, apply, make, random_variables

# (classes, points, multi_label): a click, a trace of 8 points, one icon for each of 80 classes
TARGETS = [(10, 1, False), (10, 8, False), (80, 80, True)]


@pytest.mark.parametrize('head', ['linear', 'spatial'])
@pytest.mark.parametrize('target', TARGETS)
def test_shapes_for_every_kind_of_point(head, target):
  classes, points, _ = target
  _, outputs = abstract(make('tiny_vit', head, target=target), 48)
  assert outputs['logits'].shape == (2, classes)
  assert outputs['points'].shape == (2, points, 2)
  assert outputs['cam'].shape == (2, 12, 12, classes)
  if head == 'spatial':
    assert outputs['attention'].shape == outputs['map_logits'].shape == (2, 12, 12, points)


@pytest.mark.parametrize('target', TARGETS)
def test_attention_is_a_distribution_and_points_lie_in_the_image(target):
  classes, points, multi_label = target
  head = SpatialHead(classes, points, multi_label)
  features = jax.random.normal(jax.random.key(0), (2, 6, 6, 16))
  outputs = apply(head, random_variables(head, features), features)
  assert outputs['attention'].std() > 1e-3
  softmax = jax.nn.softmax(outputs['map_logits'], axis=(1, 2))
  np.testing.assert_allclose(outputs['attention'], softmax, rtol=1e-5)
  assert (outputs['attention'] >= 0).all()
  np.testing.assert_allclose(outputs['attention'].sum((1, 2)), 1, rtol=1e-5)
  assert (outputs['points'] > 0).all() and (outputs['points'] < 1).all()


@pytest.mark.parametrize('map_per_class', [False, True])
def test_spatial_head_points_at_and_pools_the_marked_cell(map_per_class):
  # Channel k marks one cell for map k on a grid of 3 rows and 5 columns; channel 3 holds content.
  rows, columns = np.array([0, 2, 1]), np.array([4, 1, 0])
  features = np.zeros((1, 3, 5, 4), np.float32)
  features[0, rows, columns, np.arange(3)] = 1
  features[0, :, :, 3] = np.arange(15).reshape(3, 5)
  head = SpatialHead(num_classes=3, num_points=3, map_per_class=map_per_class)
  kernel = np.zeros((4, 3), np.float32)
  kernel[3] = [1, 10, 100]
  params = {
    'attention': {'kernel': 1e3 * np.eye(4, 3, dtype=np.float32)},
    'classifier': {'kernel': kernel, 'bias': np.array([0.5, 0, 0], np.float32)},
  }
  outputs = head.apply({'params': params}, jnp.asarray(features), None)
  expected = np.stack([(columns + 0.5) / 5, (rows + 0.5) / 3], -1)
  np.testing.assert_allclose(outputs['points'][0], expected, rtol=1e-6)
  content = features[0, rows, columns, 3]  # 4, 11, 5
  seen = content if map_per_class else np.full(3, content.mean())
  np.testing.assert_allclose(outputs['logits'][0], seen * kernel[3] + [0.5, 0, 0], rtol=1e-6)


def test_expected_position_between_two_cells():
  features = jnp.zeros((1, 2, 4, 1)).at[0, 0, 0].set(1).at[0, 0, 3].set(1)
  head = SpatialHead(num_classes=2, num_points=1, map_per_class=False)
  variables = head.init(jax.random.key(0), features, None)
  variables['params']['attention']['kernel'] = jnp.full((1, 1), 1e3)
  outputs = head.apply(variables, features, None)
  np.testing.assert_allclose(outputs['points'][0, 0], [0.5, 0.25], rtol=1e-6)


def test_linear_head_reads_the_pooled_feature():
  pooled = jax.random.normal(jax.random.key(0), (2, 6))
  head = LinearHead(num_classes=4, num_points=3)
  features = jax.random.normal(jax.random.key(2), (2, 3, 3, 6))
  variables = head.init(jax.random.key(1), features, pooled)
  outputs = head.apply(variables, features, pooled)
  layer = variables['params']['points']
  expected = np.asarray(pooled) @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])
  # outputs 2k and 2k + 1 are x and y of point k
  np.testing.assert_allclose(outputs['points'].reshape(2, 6), expected, rtol=1e-5, atol=1e-6)


def test_spatial_head_starts_as_average_pooling():
  features = jax.random.normal(jax.random.key(0), (2, 3, 5, 8))
  head = SpatialHead(4, 2, False)
  outputs = head.apply(head.init(jax.random.key(1), features, None), features, None)
  np.testing.assert_allclose(outputs['attention'], 1 / 15, rtol=1e-6)
  np.testing.assert_allclose(outputs['points'], 0.5, rtol=1e-6)
