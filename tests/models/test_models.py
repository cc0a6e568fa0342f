"""Models: parameter counts, shapes, receptive fields, initialisation, BatchNorm over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from luab_jax.errors import UserError
from luab_jax.models import MODELS, LuabModel, check_image_size
from luab_jax.models.heads import LinearHead, SpatialHead
from luab_jax.models.resnet import ResidualBlock, ResNet, conv
from luab_jax.models.tiny import TinyConv
from luab_jax.models.vit import VisionTransformer, normal_002
from tests.small_models import abstract, apply, make, pictures, random_variables

# name: parameters with a 1000-way classifier at 224 px, as timm counts them
PARAMETERS = {
  'resnet18': 11_689_512,
  'resnet34': 21_797_672,
  'resnet50': 25_557_032,
  'resnet101': 44_549_160,
  'resnet152': 60_192_808,
  'vit_ti16': 5_717_416,
  'vit_s16': 22_050_664,
  'vit_b16': 86_567_656,
  'vit_l16': 304_326_632,
  'convnext_t': 28_589_128,
  'convnext_s': 50_223_688,
}


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameter_count_is_timms_plus_two_outputs_a_point(name):
  variables, outputs = abstract(make(name, target=(1000, 3, False)))
  points = variables['params']['head']['points']
  dim = variables['params']['head']['classifier']['kernel'].shape[0]
  assert count(points) == 6 * (dim + 1)
  assert count(variables['params']) - count(points) == PARAMETERS[name]
  grid = 14 if name.startswith('vit') else 7
  assert outputs['features'].shape == (2, grid, grid, dim)
  assert set(outputs) == {'logits', 'points', 'features', 'cam'}
  assert outputs['cam'].shape == (2, grid, grid, 1000)


def test_a_compiled_bfloat16_model_computes_what_a_float32_one_does():
  """XLA's CPU fusions of jaxlib 0.11 and 0.12.0 give NaN; luab_jax.configure_process avoids it."""
  image = pictures(batch=4)
  variables = random_variables(make('tiny_conv'), image)

  def logits(dtype):
    model = make('tiny_conv', dtype=dtype)
    return jax.jit(lambda v, x: model.apply(v, x, train=False)['logits'])(variables, image)

  np.testing.assert_allclose(logits('bfloat16'), logits('float32'), rtol=0.1, atol=0.1)


@pytest.mark.parametrize('name', ['resnet18', 'resnet50', 'vit_s16', 'tiny_conv', 'tiny_vit'])
def test_shapes_and_dtypes_in_bfloat16(name):
  size = 48 if name.startswith('tiny') else 96
  grid = {'tiny': 12, 'vit_': 6, 'resn': 3}[name[:4]]
  variables, outputs = abstract(make(name, 'spatial', dtype='bfloat16'), size)
  features = outputs.pop('features')
  assert features.shape[:3] == (2, grid, grid) and features.dtype == jnp.bfloat16
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((variables, outputs)))
  assert outputs['logits'].shape == (2, 10) and outputs['points'].shape == (2, 1, 2)
  assert outputs['attention'].shape == (2, grid, grid, 1)


def small_backbones(dtype=jnp.float32):
  return {
    'basic': ResNet((1, 1), bottleneck=False, dtype=dtype),
    'bottleneck': ResNet((1, 1), bottleneck=True, dtype=dtype),
    'vit': VisionTransformer(width=24, depth=2, num_heads=3, patch_size=8, dtype=dtype),
    'tiny_conv': TinyConv(dtype=dtype),
  }


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['bottleneck', 'vit'])  # tiny_conv: above
def test_bfloat16_computes_close_to_float32(backbone):
  head = SpatialHead(10, 1, False)
  model = LuabModel(small_backbones()[backbone], head)
  half = LuabModel(small_backbones(jnp.bfloat16)[backbone], head)
  variables = random_variables(model, pictures(size=32))
  expected = apply(model, variables, pictures(size=32))
  for key, value in apply(half, variables, pictures(size=32)).items():
    scale = jnp.abs(expected[key]).max()
    assert 0 < jnp.abs(value - expected[key]).max() < 0.05 * scale, key
  _, updated = jax.eval_shape(
    lambda: half.apply(variables, pictures(size=32), True, mutable=['batch_stats'])
  )
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updated))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('backbone', 'head'),
  [
    ('basic', LinearHead(10, 8)),
    ('bottleneck', LinearHead(10, 1)),
    ('vit', SpatialHead(10, 8, False)),
    ('tiny_conv', SpatialHead(6, 6, True)),
  ],
)
def test_gradient_reaches_every_parameter(backbone, head):
  model = LuabModel(small_backbones()[backbone], head)
  image = pictures(size=32)
  variables = random_variables(model, image)

  def loss(params):
    outputs, _ = model.apply({**variables, 'params': params}, image, True, mutable=['batch_stats'])
    log_p = jax.nn.log_softmax(outputs['logits'])
    return -jnp.sum(log_p[:, 0]) + jnp.sum((outputs['points'] - 0.2) ** 2)

  gradient = traverse_util.flatten_dict(jax.jit(jax.grad(loss))(variables['params']), sep='/')
  dead = [name for name, value in gradient.items() if not jnp.abs(value).max() > 0]
  assert not dead


@pytest.mark.slow
def test_blocks_start_as_identity_only_with_zero_init_last():
  x = jax.nn.relu(jax.random.normal(jax.random.key(0), (1, 8, 8, 16)))
  for bottleneck, width in [(False, 16), (True, 4)]:
    for zero in [True, False]:
      block = ResidualBlock(width, 1, bottleneck, zero, jnp.float32, None)
      outputs, _ = block.init_with_output(jax.random.key(1), x, False)
      assert np.array_equal(outputs, x) == zero


def test_strided_convolutions_are_padded_on_both_sides():
  # The kernel copies its top left input: with padding 1 on each side, output (i, j) is input
  # (2i - 1, 2j - 1). XLA's 'SAME' would give input (2i, 2j) for an image of even size.
  x = jnp.arange(1.0, 37).reshape(1, 6, 6, 1)
  layer = conv(1, 3, stride=2, dtype=jnp.float32, name=None)
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1)
  outputs = layer.apply({'params': {'kernel': kernel}}, x)[0, :, :, 0]
  expected = np.zeros((3, 3))
  expected[1:, 1:] = x[0, 1:4:2, 1:4:2, 0]
  np.testing.assert_array_equal(outputs, expected)


@pytest.mark.slow
def test_start_values_have_the_reference_spread():
  layer = conv(256, 3, dtype=jnp.float32, name=None)
  kernel = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))['params']['kernel']
  assert jnp.std(kernel) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
  variables = LinearHead(1000, 1).init(
    jax.random.key(0), jnp.zeros((1, 2, 2, 256)), jnp.zeros((1, 256))
  )
  for leaf in jax.tree.leaves(variables['params']['classifier']):
    assert 0.99 / 16 < jnp.abs(leaf).max() <= 1 / 16  # uniform within 1 / sqrt(256)
  vit = VisionTransformer(width=64, depth=1, num_heads=2, patch_size=4)
  vit = jax.jit(vit.init, static_argnums=2)(jax.random.key(0), pictures(), False)['params']
  assert jnp.std(vit['block0']['qkv']['kernel']) == pytest.approx(0.02, rel=0.05)
  assert jnp.std(vit['pos_embed']) == pytest.approx(0.02, rel=0.05)
  assert 0.9 < jnp.abs(vit['patch_embed']['kernel']).max() * 48**0.5 <= 1
  assert make('tiny_vit').head.classifier_init is normal_002


def test_tiny_deep_is_as_small_as_it_says():
  variables, outputs = abstract(make('tiny_deep'), 48)
  assert count(variables['params']) == 296_300
  assert outputs['features'].shape == (2, 3, 3, 128)


def seen_by_cells(model):
  """bool[2,h,w,48]: whether a cell's features depend on row (or column) 0 … 47 of an image."""
  images = np.repeat(np.asarray(pictures(1)), 97, axis=0)  # the last one stays as it is
  for i in range(48):
    images[i, i] += 5
    images[48 + i, :, i] += 5
  features, _ = apply(model, random_variables(model, pictures()), images)
  moved = np.abs(features[:96] - features[96]).max(-1) > 1e-4
  changed = moved.reshape(2, 48, *features.shape[1:3])
  return np.moveaxis(changed, 1, -1)


def limits(seen):
  return [tuple(np.flatnonzero(axis)[[0, -1]]) for axis in seen]


def test_tiny_conv_sees_28_pixels():
  seen = seen_by_cells(TinyConv())
  assert limits(seen[:, 6, 6]) == [(12, 39)] * 2  # cell 6 is pixels 24..27, plus 3 cells each side


@pytest.mark.slow
def test_each_cell_of_tiny_deep_sees_a_border():
  seen = seen_by_cells(TinyConv(stage_widths=(96, 128)))
  for cell, expected in enumerate([(0, 27), (0, 43), (8, 47)]):  # 13 patches, clipped
    assert limits(seen[:, cell, cell]) == [expected] * 2


@pytest.mark.slow
def test_batch_statistics_move_in_training_only():
  model = make('tiny_conv')
  variables = random_variables(model, pictures())
  step = jax.jit(functools.partial(model.apply, mutable=['batch_stats']), static_argnums=2)
  _, updated = step(variables, pictures(), True)
  _, untouched = step(variables, pictures(), False)
  patches = pictures().reshape(2, 12, 4, 12, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(288, 48)
  kernel = variables['params']['backbone']['stem_conv']['kernel'].reshape(48, 48)
  values = np.asarray(patches @ kernel)
  before = variables['batch_stats']['backbone']['stem_bn']
  after = updated['batch_stats']['backbone']['stem_bn']
  for name, measured in [('mean', values.mean(0)), ('var', values.var(0))]:
    np.testing.assert_allclose(after[name], 0.9 * before[name] + 0.1 * measured, rtol=1e-4)
  jax.tree.map(np.testing.assert_array_equal, untouched['batch_stats'], variables['batch_stats'])


@pytest.mark.slow
@pytest.mark.parametrize('sync', [True, False])
def test_sync_batch_norm_makes_two_devices_see_one_batch(sync):
  image = pictures(batch=4) * jnp.array([1, 1, 3, 3])[:, None, None, None]
  variables = random_variables(make('tiny_conv'), image)
  step = functools.partial(make('tiny_conv').apply, train=True, mutable=['batch_stats'])
  whole, _ = jax.jit(step)(variables, image)
  model = make('tiny_conv', sync=sync)
  step = functools.partial(model.apply, train=True, mutable=['batch_stats'])
  halves, updated = jax.pmap(step, axis_name='batch', in_axes=(None, 0), devices=jax.devices()[:2])(
    variables, image.reshape(2, 2, 48, 48, 3)
  )
  difference = jnp.abs(halves['logits'].reshape(4, -1) - whole['logits']).max()
  mean = updated['batch_stats']['backbone']['stem_bn']['mean']
  assert (difference < 1e-4) == sync
  assert np.allclose(mean[0], mean[1], atol=1e-6) == sync


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda: make('resnet51'), ['model.name', "'resnet51'", *MODELS]),
    (lambda: make('resnet50', 'conv'), ['model.head', 'linear, spatial']),
    (lambda: make('resnet50', dtype='float16'), ['model.dtype', 'float32, bfloat16']),
    (lambda: make('vit_s16', 'spatial', target=(80, 8, True)), ['model.head', '80', '8']),
    (lambda: check_image_size('vit_s16', 100), ['data.image_size=100', 'multiple of 16']),
    (lambda: check_image_size('tiny_conv', 50), ['data.image_size=50', 'multiple of 4']),
    (lambda: check_image_size('tiny_deep', 56), ['data.image_size=56', 'multiple of 16']),
  ],
)
def test_a_wrong_setting_is_named_in_one_line(call, words):
  with pytest.raises(UserError) as error:
    call()
  message = str(error.value)
  assert '\n' not in message
  assert all(word in message for word in words)


@pytest.mark.parametrize(
  ('normalisation', 'mean', 'std'),
  [('imagenet', (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ('half', 0.5, 0.5)],
)
def test_bytes_are_normalised_as_torchvision_or_augreg_does(normalisation, mean, std):
  model = make('tiny_conv', normalisation=normalisation)
  image = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
  normalised = (image / 255 - mean) / std
  variables = random_variables(model, image)
  of_bytes, of_floats = (
    apply(model, variables, x)['logits'] for x in (image, normalised.astype(np.float32))
  )
  np.testing.assert_allclose(of_bytes, of_floats, rtol=1e-4, atol=1e-4)
