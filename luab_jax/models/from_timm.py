"""Weights with timm's names and layouts into our variables."""

import re

import numpy as np
from flax import traverse_util

from luab_jax.errors import UserError
from luab_jax.models import RESNETS, VITS

# (pattern in our path, its timm name), applied in this order to paths like 'layer1_0/conv1/kernel'.
RESNET_NAMES = (
  (r'^head/classifier/', 'fc/'),
  (r'^layer(\d)_(\d+)/', r'layer\1/\2/'),
  (r'/downsample_conv/', '/downsample/0/'),
  (r'/downsample_bn/', '/downsample/1/'),
)
VIT_NAMES = (
  (r'^head/classifier/', 'head/'),
  (r'^patch_embed/', 'patch_embed/proj/'),
  (r'^block(\d+)/(qkv|proj)/', r'blocks/\1/attn/\2/'),
  (r'^block(\d+)/(fc\d)/', r'blocks/\1/mlp/\2/'),
  (r'^block(\d+)/', r'blocks/\1/'),
)
LEAF_NAMES = {
  'kernel': 'weight',
  'scale': 'weight',
  'mean': 'running_mean',
  'var': 'running_var',
}


def timm_name(path, names):
  """timm's name of one leaf of ours, e.g. 'backbone/layer1_0/conv1/kernel'."""
  path = path.removeprefix('backbone/')
  for pattern, replacement in names:
    path = re.sub(pattern, replacement, path)
  *modules, leaf = path.split('/')
  return '.'.join([*modules, LEAF_NAMES.get(leaf, leaf)])


def to_flax_layout(value):
  """Convolutions from [out,in,h,w] to [h,w,in,out], matrices from [out,in] to [in,out]."""
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  return value.T if value.ndim == 2 else value


def convert(state_dict, model_name, variables, *, source='the state dict'):
  """Returns `variables` with the backbone and the classifier replaced by timm's weights.

  The point (or attention) layer of the head has no counterpart in timm and is kept.

  Args:
    state_dict: timm's name -> array, of timm's resnet18 ... resnet152 or vit_*_patch16_224. Every
      name must find its place; only BatchNorm's `num_batches_tracked` has none with us.
    model_name: our name of the model, e.g. 'resnet50'.
    variables: params and batch_stats of our model, as `init` gives them; not modified.
    source: what the user calls the weights (a file name), for messages.

  Returns:
    Nested dict like `variables`; what was replaced is float32 numpy.

  Raises:
    UserError: a name that is missing or left over, a shape that does not fit, another model.
  """
  if model_name not in (*RESNETS, *VITS) or model_name == 'tiny_vit':
    raise UserError(f'{source}: timm has no {model_name!r}; choose a ResNet or a ViT.')
  names = RESNET_NAMES if model_name in RESNETS else VIT_NAMES
  flat = traverse_util.flatten_dict(variables, sep='/')
  # 'params/backbone/bn1/scale' -> 'bn1.weight', for all but the point layer
  wanted = {
    path: timm_name(path.split('/', 1)[1], names)
    for path in flat
    if '/backbone/' in path or '/head/classifier/' in path
  }
  counters = {
    name.removesuffix('running_mean') + 'num_batches_tracked'
    for name in wanted.values()
    if name.endswith('running_mean')
  }
  missing = sorted(set(wanted.values()) - set(state_dict))
  extra = sorted(set(state_dict) - set(wanted.values()) - counters)
  if missing or extra:
    raise UserError(
      f'{source}: not the weights of a {model_name}: {len(missing)} of its arrays are missing '
      f'({", ".join(missing[:3]) or "-"}) and {len(extra)} are left over '
      f'({", ".join(extra[:3]) or "-"}); give the file of this very model.'
    )
  for path, name in wanted.items():
    value = to_flax_layout(np.asarray(state_dict[name], np.float32))
    if value.shape != flat[path].shape:
      raise UserError(
        f'{source}: {name} has shape {tuple(np.shape(state_dict[name]))}, which fits '
        f'{value.shape} here, but this {model_name} needs {flat[path].shape}; the number of '
        'classes and (for a ViT) data.image_size must be those the weights were trained with.'
      )
    flat[path] = value
  return traverse_util.unflatten_dict(flat, sep='/')
