"""Conversion of timm's weights; where timm is installed, our logits are its logits.

The environment for the last test is described in benchmarks/timm_parity.py, which does the same at
224 px.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models import build_model, from_timm


def make(name, head='linear'):
  config = ConfigDict({'name': name, 'head': head, 'dtype': 'float32', 'sync_batch_norm': False})
  return build_model(config, num_classes=10, num_points=1, multi_label=False)


def abstract_variables(model):
  """Shapes of the variables for 64 px pictures."""
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
  """The same for vit_tiny_patch16_224 (here on 64 px)."""
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
  """name: (state dict, our abstract variables)"""
  rng = np.random.default_rng(0)
  return {
    'resnet18': (timm_resnet18(rng), abstract_variables(make('resnet18', 'spatial'))),
    'vit_ti16': (timm_vit_ti16(rng), abstract_variables(make('vit_ti16'))),
  }


def test_conversion_places_every_array(conversions):
  resnet, variables = conversions['resnet18']
  ours = from_timm.convert(resnet, 'resnet18', variables)
  block, stats = ours['params']['backbone']['layer3_0'], ours['batch_stats']['backbone']
  weight = resnet['layer3.0.downsample.0.weight']
  np.testing.assert_allclose(block['downsample_conv']['kernel'][0, 0], weight[:, :, 0, 0].T)
  np.testing.assert_allclose(
    block['conv2']['kernel'][0, 2, 5], resnet['layer3.0.conv2.weight'][:, 5, 0, 2]
  )
  np.testing.assert_allclose(
    stats['layer3_0']['downsample_bn']['var'], resnet['layer3.0.downsample.1.running_var']
  )
  np.testing.assert_allclose(
    ours['params']['head']['classifier']['kernel'], resnet['fc.weight'].T
  )
  kept = ours['params']['head']['attention']['kernel']
  assert kept is variables['params']['head']['attention']['kernel']
  assert jax.tree.structure(ours) == jax.tree.structure(variables)

  vit, variables = conversions['vit_ti16']
  ours = from_timm.convert(vit, 'vit_ti16', variables)
  np.testing.assert_allclose(
    ours['params']['backbone']['block11']['proj']['kernel'],
    vit['blocks.11.attn.proj.weight'].T,
  )
  # as many numbers as in the state dict: none is used twice
  given = sum(value.size for value in vit.values())
  placed = sum(value.size for value in jax.tree.leaves(ours['params']))
  assert placed - 2 * (192 + 1) == given  # but for the head's two outputs for the point


@pytest.mark.parametrize('name', ['resnet18', 'vit_ti16'])
def test_conversion_refuses_what_does_not_fit(conversions, name):
  state, variables = conversions[name]
  first, last = list(state)[0], list(state)[-1]
  convert = functools.partial(
    from_timm.convert, model_name=name, variables=variables, source='w.pt'
  )
  bad = {
    f'1 of its arrays are missing ({first})': {k: v for k, v in state.items() if k != first},
    '1 are left over (extra.weight)': {**state, 'extra.weight': np.zeros(3)},
    f'{last} has shape': {**state, last: np.zeros((3, 3))},
  }
  for words, broken in bad.items():
    with pytest.raises(UserError) as error:
      convert(broken)
    assert str(error.value).startswith('w.pt: ') and words in str(error.value)
  other = conversions['vit_ti16' if name == 'resnet18' else 'resnet18'][0]
  with pytest.raises(UserError, match='not the weights of'):
    convert(other)
  with pytest.raises(UserError, match='tiny_conv'):
    from_timm.convert(state, 'tiny_conv', variables)


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
  variables = from_timm.convert(state, name, start)
  ours = jax.jit(model.apply, static_argnums=2)(variables, image, False)['logits']
  np.testing.assert_allclose(ours, logits, atol=1e-4, rtol=0)
