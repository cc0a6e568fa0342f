"""Fine-tuning: which parameters are updated, and at which learning rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from luab_jax.models import build_model
from luab_jax.train.optimizer import layer_numbers, make_optimizer


def _params(name):
  """Parameters that are all ones; computes nothing."""
  config = default.get_config().model
  config.name = name
  model = build_model(config, num_classes=5, num_points=1, multi_label=False)
  image = jnp.zeros((1, 32, 32, 3))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, False))['params']
  return jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)


def _update(params, **options):
  """{part: {layer: step size}} of SGD's first update for a gradient of ones."""
  config = default.get_config()
  config.optimizer.update(weight_decay=0.0, momentum=0.0, **options)
  optimizer = make_optimizer(config, optax.constant_schedule(1.0))
  updates, _ = jax.jit(lambda p: optimizer.update(p, optimizer.init(p), p))(params)
  return {
    name: {part: -float(np.ravel(jax.tree.leaves(tree)[0])[0]) for part, tree in parts.items()}
    for name, parts in updates.items()
  }


@pytest.mark.parametrize(
  ('name', 'layers'),
  [
    ('tiny_vit', {'patch_embed': 0, 'cls_token': 0, 'pos_embed': 0, 'block0': 1, 'block3': 4}),
    ('resnet18', {'conv1': 0, 'bn1': 0, 'layer1_0': 1, 'layer1_1': 1, 'layer4_1': 4}),
    ('convnext_t', {'stage0_conv': 1, 'stage1_norm': 2, 'stage3_block2': 4}),
    ('tiny_conv', {'stem_conv': 0, 'block0_conv1': 1, 'block2_bn2': 3}),
  ],
)
def test_layers_are_numbered_from_the_image_to_the_head(name, layers):
  params = _params(name)
  numbers = layer_numbers(params)
  for part, number in layers.items():
    assert set(jax.tree.leaves(numbers['backbone'][part])) == {number}, part
  last = max(layers.values()) + 1
  assert set(jax.tree.leaves(numbers['head'])) == {last}
  if name.startswith(('tiny_vit', 'convnext')):
    assert set(jax.tree.leaves(numbers['backbone']['norm'])) == {last}


@pytest.mark.slow
def test_each_layer_learns_at_its_own_rate():
  rates = _update(_params('tiny_vit'), layer_decay=0.5, head_rate=3.0)
  assert rates['head'] == {'classifier': 3.0, 'points': 3.0}
  backbone = rates['backbone']
  assert [backbone[f'block{i}'] for i in range(4)] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
  assert backbone['patch_embed'] == 1 / 32 and backbone['norm'] == 1
  plain = _update(_params('tiny_vit'))
  assert {rate for parts in plain.values() for rate in parts.values()} == {1.0}


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
def test_a_frozen_backbone_neither_moves_nor_decays(name):
  config = default.get_config()
  config.model.freeze_backbone = True
  config.optimizer.update(name=name, weight_decay=0.1, grad_clip_norm=1.0, layer_decay=0.5)
  params = _params('tiny_conv')
  optimizer = make_optimizer(config, optax.constant_schedule(1.0))
  state = optimizer.init(params)
  updates, _ = jax.jit(optimizer.update)(params, state, params)
  assert all(np.any(leaf) for leaf in jax.tree.leaves(updates['head']))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates['backbone']))
  heads = sum(leaf.size for leaf in jax.tree.leaves(params['head']))
  kept = sum(leaf.size for leaf in jax.tree.leaves(state))
  assert kept <= 2 * heads + 10  # no momentum for frozen parameters
