"""Model options: dropout, stochastic depth, position embeddings, pooling, remat, freezing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import default
from luab_jax.errors import UserError
from luab_jax.models import check_model
from luab_jax.models.convnext import ConvNeXt
from luab_jax.models.drop import depth_rates, drop_path, dropout, example_keys
from luab_jax.models.resnet import ResNet
from luab_jax.models.vit import VisionTransformer, sincos2d
from tests.small_models import apply, make, pictures, random_variables


def test_keys_of_a_shard_are_those_of_the_whole_batch():
  whole = jax.random.key_data(example_keys(jax.random.key(3), jnp.array(7), 0, 8))
  shard = jax.random.key_data(example_keys(jax.random.key(3), jnp.array(7), jnp.array(4), 4))
  np.testing.assert_array_equal(whole[4:], shard)
  assert len(np.unique(whole, axis=0)) == 8
  assert (jax.random.key_data(example_keys(jax.random.key(3), jnp.array(8), 0, 8)) != whole).any()


def test_drop_path_drops_whole_examples_and_scales_the_rest():
  x = jnp.ones((4000, 2, 3))
  keys = example_keys(jax.random.key(0), jnp.array(0), 0, 4000)
  first, second = (np.asarray(drop_path(x, keys, 0.25, layer)) for layer in (0, 1))
  kept = first[:, 0, 0] > 0
  np.testing.assert_allclose(first, np.where(kept[:, None, None], 1 / 0.75, 0) * x)
  assert abs(kept.mean() - 0.75) < 0.02
  assert abs((kept == (second[:, 0, 0] > 0)).mean() - 0.625) < 0.03  # layers are independent
  assert drop_path(x, None, 0.25, 0) is x is drop_path(x, keys, 0.0, 0)


def test_dropout_drops_a_feature_at_all_places():
  keys = example_keys(jax.random.key(0), jnp.array(0), 0, 50)
  grid = np.asarray(dropout(jnp.ones((50, 3, 3, 40)), keys, 0.5))
  np.testing.assert_array_equal(grid, np.broadcast_to(grid[:, :1, :1], grid.shape))
  pooled = np.asarray(dropout(jnp.ones((50, 40)), keys, 0.5))
  np.testing.assert_array_equal(pooled, grid[:, 0, 0])
  assert set(np.unique(pooled)) == {0, 2} and abs(pooled.mean() - 1) < 0.1


def test_stochastic_depth_grows_linearly():
  assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
  assert depth_rates(0.3, 1) == [0]


def test_sincos_positions_depend_on_differences_alone():
  table = np.asarray(sincos2d(6, 5, 32, class_token=False))[0].reshape(6, 5, 32)
  np.testing.assert_allclose(table[0, 0], np.repeat([0, 1, 0, 1], 8), atol=1e-6)
  product = np.einsum('yxd,YXd->yxYX', table, table)
  np.testing.assert_allclose(product[0, 0, 2, 1], product[3, 3, 5, 4], rtol=1e-5)
  np.testing.assert_allclose(table[2, :, 16:], np.broadcast_to(table[2, :1, 16:], (5, 16)))
  with_token = np.asarray(sincos2d(6, 5, 32, class_token=True))[0]
  assert not with_token[0].any()
  np.testing.assert_array_equal(with_token[1:], table.reshape(30, 32))


@pytest.mark.slow
@pytest.mark.parametrize('positions', ['learned', 'sincos2d'])
def test_gap_pools_the_patches_and_has_no_class_token(positions):
  model = VisionTransformer(16, 1, 2, 8, pool='gap', positions=positions)
  variables = random_variables(model, pictures(4, 16))
  names = set(variables['params'])
  assert 'cls_token' not in names and ('pos_embed' in names) == (positions == 'learned')
  features, pooled = apply(model, variables, pictures(4, 16))
  np.testing.assert_allclose(pooled, features.mean((1, 2)), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  'backbone',
  [
    functools.partial(VisionTransformer, 16, 1, 2, 8),
    functools.partial(ResNet, (1,), False),
    functools.partial(ConvNeXt, (1,), (8,)),
  ],
)
def test_remat_changes_no_gradient(backbone):
  plain, remat = backbone(), backbone(remat=True)
  variables = random_variables(plain, pictures(2, 16))

  def gradient(model):
    def loss(params):
      both = {**variables, 'params': params}
      (features, pooled), _ = model.apply(both, pictures(2, 16), True, mutable=['batch_stats'])
      return (features**2).sum() + pooled.sum()

    return jax.make_jaxpr(jax.grad(loss)), jax.jit(jax.grad(loss))(variables['params'])

  (jaxpr, expected), (other, found) = gradient(plain), gradient(remat)
  assert 'remat' in str(other(variables['params'])) and 'remat' not in str(
    jaxpr(variables['params'])
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * (1 + np.abs(a).max())),
    expected,
    found,
  )


@pytest.mark.slow
def test_a_frozen_backbone_gets_no_gradient_and_keeps_its_statistics():
  model = make('tiny_conv', freeze_backbone=True)
  variables = random_variables(model, pictures(4, 16))

  def loss(params):
    both = {**variables, 'params': params}
    output, updated = model.apply(both, pictures(4, 16), True, mutable=['batch_stats'])
    return output['logits'].sum() + output['points'].sum(), updated

  gradient, updated = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
  flat = traverse_util.flatten_dict(gradient, sep='/')
  assert {name.split('/')[0] for name, leaf in flat.items() if np.any(leaf)} == {'head'}
  jax.tree.map(np.testing.assert_array_equal, updated['batch_stats'], variables['batch_stats'])


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('vit_pool', 'max', "unknown 'max'; choose one of token, gap"),
    ('vit_positions', 'rope', "unknown 'rope'"),
    ('drop_path', 1.0, 'not a probability'),
    ('dropout', -0.1, 'not a probability'),
  ],
)
def test_a_wrong_option_is_named(key, value, words):
  config = default.get_config().model
  config[key] = value
  with pytest.raises(UserError, match=f'model.{key}.*{words}'):
    check_model(config)
