"""Conversion of timm's weights; if timm is installed, our logits equal its logits.

benchmarks/timm_parity.py describes the environment for the last test and does the same at 224 px.
Weight files are tested in test_load.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from luab_jax.errors import UserError
from luab_jax.models import build_model
from luab_jax.models.weights import timm_names


def make(name, head='linear', **options):
  config = default.get_config().model
  config.update(name=name, head=head, dtype='float32', **options)
  return build_model(config, num_classes=10, num_points=1, multi_label=False)


def abstract_variables(model):
  """Shapes of the variables for 64 px images."""
  return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), False))


def timm_resnet18(rng, classes=10):
  """Random arrays under the names and shapes of timm's resnet18, written down independently."""
  state = {}

  def conv_bn(conv, bn, out, inner, size):
    state[f'{conv}.weight'] = rng.normal(size=(out, inner, size, size))
    for name in ['weight', 'bias', 'running_mean', 'running_var']:
      state[f'{bn}.{name}'] = rng.uniform(0.5, 1, size=out)
    state[f'{bn}.num_batches_tracked'] = np.array(7)

  conv_bn('conv1', 'bn1', 64, 3, 7)
  inner = 64
  for stage, out in enumerate([64, 128, 256, 512], 1):
    for block in range(2):
      name = f'layer{stage}.{block}'
      conv_bn(f'{name}.conv1', f'{name}.bn1', out, inner, 3)
      conv_bn(f'{name}.conv2', f'{name}.bn2', out, out, 3)
      if inner != out:
        conv_bn(f'{name}.downsample.0', f'{name}.downsample.1', out, inner, 1)
      inner = out
  state['fc.weight'], state['fc.bias'] = rng.normal(size=(classes, 512)), rng.normal(size=classes)
  return state


def timm_vit_ti16(rng, classes=10, tokens=17):
  """The same for vit_tiny_patch16_224 (here at 64 px)."""
  dim = 192
  shapes = {
    'cls_token': (1, 1, dim),
    'pos_embed': (1, tokens, dim),
    'patch_embed.proj.weight': (dim, 3, 16, 16),
    'patch_embed.proj.bias': (dim,),
    'norm.weight': (dim,),
    'norm.bias': (dim,),
    'head.weight': (classes, dim),
    'head.bias': (classes,),
  }
  for i in range(12):
    for name, (out, inner) in {
      'attn.qkv': (3 * dim, dim),
      'attn.proj': (dim, dim),
      'mlp.fc1': (4 * dim, dim),
      'mlp.fc2': (dim, 4 * dim),
    }.items():
      shapes[f'blocks.{i}.{name}.weight'] = (out, inner)
      shapes[f'blocks.{i}.{name}.bias'] = (out,)
    for name in ['norm1', 'norm2']:
      shapes[f'blocks.{i}.{name}.weight'] = shapes[f'blocks.{i}.{name}.bias'] = (dim,)
  return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.fixture(scope='module')
def conversions():
  """{name: (state dict, our abstract variables)}."""
  rng = np.random.default_rng(0)
  return {
    'resnet18': (timm_resnet18(rng), abstract_variables(make('resnet18', 'spatial'))),
    'vit_ti16': (timm_vit_ti16(rng), abstract_variables(make('vit_ti16'))),
  }


def test_conversion_places_every_array(conversions):
  resnet, variables = conversions['resnet18']
  ours = timm_names.convert(resnet, 'resnet18', variables).variables
  block, stats = ours['params']['backbone']['layer3_0'], ours['batch_stats']['backbone']
  weight = resnet['layer3.0.downsample.0.weight']
  np.testing.assert_allclose(block['downsample_conv']['kernel'][0, 0], weight[:, :, 0, 0].T)
  np.testing.assert_allclose(
    block['conv2']['kernel'][0, 2, 5], resnet['layer3.0.conv2.weight'][:, 5, 0, 2]
  )
  np.testing.assert_allclose(
    stats['layer3_0']['downsample_bn']['var'], resnet['layer3.0.downsample.1.running_var']
  )
  np.testing.assert_allclose(ours['params']['head']['classifier']['kernel'], resnet['fc.weight'].T)
  kept = ours['params']['head']['attention']['kernel']
  assert kept is variables['params']['head']['attention']['kernel']
  assert jax.tree.structure(ours) == jax.tree.structure(variables)

  vit, variables = conversions['vit_ti16']
  ours = timm_names.convert(vit, 'vit_ti16', variables).variables
  np.testing.assert_allclose(
    ours['params']['backbone']['block11']['proj']['kernel'], vit['blocks.11.attn.proj.weight'].T
  )
  # as many numbers as in the state dict: no array is used twice
  given = sum(value.size for value in vit.values())
  placed = sum(value.size for value in jax.tree.leaves(ours['params']))
  assert placed - 2 * (192 + 1) == given  # all but the point layer's two outputs


@pytest.mark.parametrize('name', ['resnet18', 'vit_ti16'])
def test_conversion_refuses_what_does_not_fit(conversions, name):
  state, variables = conversions[name]
  first = next(iter(state))
  convert = functools.partial(
    timm_names.convert, model_name=name, variables=variables, source='w.pt'
  )
  bad = {
    f'1 of its arrays are missing ({first})': {k: v for k, v in state.items() if k != first},
    '1 are left over (extra.weight)': {**state, 'extra.weight': np.zeros(3)},
    f'{first} has the shape [3,3]': {**state, first: np.zeros((3, 3))},
  }
  for words, broken in bad.items():
    with pytest.raises(UserError) as error:
      convert(broken)
    assert str(error.value).startswith('w.pt: ') and words in str(error.value)
  other = conversions['vit_ti16' if name == 'resnet18' else 'resnet18'][0]
  with pytest.raises(UserError, match='not the weights of'):
    convert(other)


@pytest.mark.parametrize('name', ['resnet18', 'vit_ti16'])
def test_a_classifier_that_does_not_fit_is_initialized(conversions, name):
  state, variables = conversions[name]
  layer = 'fc' if name == 'resnet18' else 'head'
  head = {key for key in state if key.startswith(f'{layer}.')}
  backbone = {key: value for key, value in state.items() if key not in head}
  dim = state[f'{layer}.weight'].shape[1]
  cases = {
    'the file has none': backbone,
    'the file has 1000 classes, the data 10': {
      **backbone,
      f'{layer}.weight': np.zeros((1000, dim)),
      f'{layer}.bias': np.zeros(1000),
    },
    "the file's follows an extra layer": {
      **state,
      'pre_logits.fc.weight': np.zeros((dim, dim)),
      'pre_logits.fc.bias': np.zeros(dim),
    },
  }
  for why, weights in cases.items():
    done = timm_names.convert(weights, name, variables)
    assert done.initialized == {'the classifier': why, 'the point layer': 'the file has none'}
    kept = done.variables['params']['head']['classifier']
    assert kept == variables['params']['head']['classifier']
    assert set(done.skipped) | set(done.loaded) == set(weights)
    assert not head & set(done.loaded)
  done = timm_names.convert(state, name, variables)
  assert done.initialized == {'the point layer': 'the file has none'} and head < set(done.loaded)


@pytest.mark.parametrize(('old', 'new'), [(14, 24), (14, 7), (4, 5), (5, 1)])
def test_position_embeddings_are_resized_bicubically_with_antialiasing(old, new):
  """Against the formula in float64; benchmarks/timm_parity.py compares with timm's function."""
  stretch = max(old / new, 1)  # the filter grows where the grid shrinks
  distance = np.abs((np.arange(new) + 0.5)[:, None] * old / new - (np.arange(old) + 0.5)) / stretch
  a = -0.5  # Keys (1981), equation 4
  weights = np.where(
    distance < 1,
    (a + 2) * distance**3 - (a + 3) * distance**2 + 1,
    np.where(distance < 2, a * (distance**3 - 5 * distance**2 + 8 * distance - 4), 0),
  )
  weights /= weights.sum(1, keepdims=True)
  value = np.random.default_rng(0).normal(size=(1, 1 + old**2, 3)).astype(np.float32)
  resized = timm_names.resize_position_embeddings(value, 1 + new**2)
  np.testing.assert_array_equal(resized[:, 0], value[:, 0])
  wanted = np.einsum('ij,jkd,lk->ild', weights, value[0, 1:].reshape(old, old, 3), weights)
  np.testing.assert_allclose(resized[0, 1:].reshape(new, new, 3), wanted, atol=1e-5)
  without_class = timm_names.resize_position_embeddings(value[:, 1:], 1 + old**2)
  np.testing.assert_array_equal(without_class[:, 1:], value[:, 1:])
  assert not without_class[:, 0].any()
  with pytest.raises(ValueError, match='not a class token and a square'):
    timm_names.resize_position_embeddings(value[:, :3], 5)


TIMM_NAMES = {
  'resnet18': 'resnet18',
  'resnet50': 'resnet50',
  'vit_ti16': 'vit_tiny_patch16_224',
  'vit_s16': 'vit_small_patch16_224',
}


@pytest.mark.parametrize('name', TIMM_NAMES)
def test_logits_agree_with_timm(name):
  timm = pytest.importorskip('timm')
  torch = pytest.importorskip('torch')
  torch.manual_seed(0)
  size = {'img_size': 64} if name.startswith('vit') else {}
  theirs = timm.create_model(TIMM_NAMES[name], num_classes=10, **size)
  image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
  nchw = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    for value in theirs.parameters():
      if value.ndim == 1:
        value.add_(0.3 * torch.randn_like(value))
    theirs.train()(nchw + 0.5)  # moves BatchNorm's statistics
    logits = theirs.eval()(nchw).numpy()
  model = make(name)
  state = {key: value.numpy() for key, value in theirs.state_dict().items()}
  start = jax.jit(model.init, static_argnums=2)(jax.random.key(0), image, False)
  variables = timm_names.convert(state, name, start).variables
  ours = jax.jit(model.apply, static_argnums=2)(variables, image, False)['logits']
  np.testing.assert_allclose(ours, logits, atol=1e-4, rtol=0)
