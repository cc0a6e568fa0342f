"""Converts weights between our variables and timm's names and layouts, in both directions."""

import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np
import PIL.Image
from flax import traverse_util

from luab_jax.errors import UserError
from luab_jax.models import CONVNEXTS, RESNETS
from luab_jax.models.weights import files

# {our name of a model: timm's name}
TIMM_MODELS = {
  **{name: name for name in RESNETS},
  'vit_ti16': 'vit_tiny_patch16_224',
  'vit_s16': 'vit_small_patch16_224',
  'vit_b16': 'vit_base_patch16_224',
  'vit_l16': 'vit_large_patch16_224',
  'convnext_t': 'convnext_tiny',
  'convnext_s': 'convnext_small',
}
# (pattern in our path, its timm name), applied in this order to paths like 'layer1_0/conv1/kernel'.
RESNET_NAMES = (
  (r'^head/classifier/', 'fc/'),
  (r'^layer(\d)_(\d+)/', r'layer\1/\2/'),
  (r'/downsample_conv/', '/downsample/0/'),
  (r'/downsample_bn/', '/downsample/1/'),
)
CONVNEXT_NAMES = (
  (r'^head/classifier/', 'head/fc/'),
  (r'^norm/', 'head/norm/'),
  (r'^stage0_conv/', 'stem/0/'),
  (r'^stage0_norm/', 'stem/1/'),
  (r'^stage(\d)_norm/', r'stages/\1/downsample/0/'),
  (r'^stage(\d)_conv/', r'stages/\1/downsample/1/'),
  (r'^stage(\d)_block(\d+)/(fc\d)/', r'stages/\1/blocks/\2/mlp/\3/'),
  (r'^stage(\d)_block(\d+)/', r'stages/\1/blocks/\2/'),
)
VIT_NAMES = (
  (r'^head/classifier/', 'head/'),
  (r'^patch_embed/', 'patch_embed/proj/'),
  (r'^block(\d+)/(qkv|proj)/', r'blocks/\1/attn/\2/'),
  (r'^block(\d+)/(fc\d)/', r'blocks/\1/mlp/\2/'),
  (r'^block(\d+)/', r'blocks/\1/'),
)
LEAF_NAMES = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
# Step counters of BatchNorm and weight averaging, and a layer between features and classifier in
# the first ViTs.
_WITHOUT_COUNTERPART = (
  'num_batches_tracked',
  'n_averaged',
  'pre_logits.fc.weight',
  'pre_logits.fc.bias',
)


class Conversion(NamedTuple):
  """Result of `convert`.

  Attributes:
    variables: our variables with the arrays of the file filled in, float32 numpy.
    loaded: names of the arrays in the file that were loaded.
    skipped: names of the arrays in the file that our model does not use.
    initialized: {module that keeps its initial values: why}.
    resized: '' or how the position embeddings were resized, e.g. '14x14 -> 24x24'.
  """

  variables: dict
  loaded: list[str]
  skipped: list[str]
  initialized: dict[str, str]
  resized: str


def timm_names(variables: dict, model_name: str) -> dict[str, str]:
  """Returns {'params/backbone/bn1/scale': 'bn1.weight', ...} for all but the point layer.

  Models that timm does not have keep our names, with '.' for '/'.
  """
  names: tuple[tuple[str, str], ...] = ()
  if model_name in TIMM_MODELS:
    names = RESNET_NAMES if model_name in RESNETS else VIT_NAMES
    names = CONVNEXT_NAMES if model_name in CONVNEXTS else names
  return {
    path: _timm_name(path.split('/', 1)[1], names)
    for path in traverse_util.flatten_dict(variables, sep='/')
    if '/backbone/' in path or '/head/classifier/' in path
  }


def _timm_name(path: str, names: tuple[tuple[str, str], ...]) -> str:
  """Returns timm's name of one of our arrays, e.g. of 'backbone/layer1_0/conv1/kernel'."""
  path = path.removeprefix('backbone/')
  for pattern, replacement in names:
    path = re.sub(pattern, replacement, path)
  *modules, leaf = path.split('/')
  return '.'.join([*modules, LEAF_NAMES.get(leaf, leaf)])


def to_flax_layout(value: np.ndarray) -> np.ndarray:
  """Transposes convolutions [out,in,h,w] to [h,w,in,out] and matrices [out,in] to [in,out]."""
  if value.ndim == 4:
    return value.transpose(2, 3, 1, 0)
  return value.T if value.ndim == 2 else value


def to_timm_layout(value: np.ndarray) -> np.ndarray:
  """Inverse of `to_flax_layout`; returns a contiguous array."""
  if value.ndim == 4:
    value = value.transpose(3, 2, 0, 1)
  return np.ascontiguousarray(value.T if value.ndim == 2 else value)


def resize_position_embeddings(value: np.ndarray, tokens: int) -> np.ndarray:
  """Resizes position embeddings to another number of patches, as timm's resample_abs_pos_embed.

  Args:
    value: f32[1,N,D] of a class token and a square grid of patches, or of the grid alone; the
      embedding of the class token is then zero.
    tokens: the N required, a square plus 1.

  Returns:
    f32[1,tokens,D], bicubic with antialiasing, by Pillow, whose filter torch adopted.

  Raises:
    ValueError: N is neither a square nor a square plus 1, or `tokens` is not a square plus 1.
  """
  if round(value.shape[1] ** 0.5) ** 2 == value.shape[1]:
    value = np.concatenate([np.zeros_like(value[:, :1]), value], axis=1)
  old, new = (round((count - 1) ** 0.5) for count in (value.shape[1], tokens))
  if old**2 + 1 != value.shape[1] or new**2 + 1 != tokens:
    raise ValueError(f'{value.shape[1]} position embeddings are not a class token and a square')
  if old == new:
    return value
  channels = [
    np.asarray(PIL.Image.fromarray(channel).resize((new, new), PIL.Image.Resampling.BICUBIC))
    for channel in np.ascontiguousarray(value[0, 1:].T).reshape(-1, old, old)
  ]
  grid = np.stack(channels, axis=-1).reshape(1, new**2, -1)
  return np.concatenate([value[:, :1], grid], axis=1)


def convert(
  state_dict: Mapping[str, np.ndarray],
  model_name: str,
  variables: dict,
  *,
  source: str | os.PathLike = 'the state dict',
) -> Conversion:
  """Copies weights with timm's names into the variables of our model.

  The backbone must be complete. A classifier that is missing or has another number of classes keeps
  its initial values, as does the point (or attention) layer, which timm does not have. Position
  embeddings are resized.

  Args:
    state_dict: {timm's name: array}. The only other names allowed are step counters and a layer
      between features and classifier.
    model_name: our name of the model, e.g. 'resnet50'.
    variables: params and batch_stats of our model, as returned by `init`; not modified.
    source: where the weights come from (a file name), for error messages.

  Raises:
    UserError: the weights are those of another model.
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  wanted = timm_names(variables, model_name)
  layout = to_flax_layout if model_name in TIMM_MODELS else lambda value: value
  # Weight and bias are loaded or initialized together.
  classifier = {path: name for path, name in wanted.items() if '/head/classifier/' in path}
  extra = sorted(set(state_dict) - set(wanted.values()))
  skipped = [name for name in extra if name.endswith(_WITHOUT_COUNTERPART)]
  initialized = {'the point layer': 'the file has none'}
  if why := _classifier_problem(state_dict, classifier, flat, layout):
    initialized = {'the classifier': why, **initialized}
    skipped += sorted(set(classifier.values()) & set(state_dict))
    wanted = {path: name for path, name in wanted.items() if path not in classifier}
  unexpected = [name for name in extra if not name.endswith(_WITHOUT_COUNTERPART)]
  _check_names(sorted(set(wanted.values()) - set(state_dict)), unexpected, model_name, source)
  resized = ''
  for path, name in wanted.items():
    dtype = np.asarray(state_dict[name]).dtype
    if dtype.kind != 'f' and dtype != ml_dtypes.bfloat16:
      raise UserError(f'{source}: {name} has dtype {dtype}, {files.EXPECTED}')
    value = layout(np.asarray(state_dict[name], np.float32))
    if name == 'pos_embed' and value.shape != flat[path].shape and value.ndim == 3:
      value, resized = _resized(value, flat[path].shape[1], source)
    if value.shape != flat[path].shape:
      raise UserError(
        f'{source}: not the weights of a {model_name}: {name} has the shape '
        f'{_format_shape(np.shape(state_dict[name]))}, which is {_format_shape(value.shape)} here, '
        f'but {_format_shape(flat[path].shape)} is needed; set --config.model.name to the model of '
        'the file'
      )
    flat[path] = np.ascontiguousarray(value)
  return Conversion(
    traverse_util.unflatten_dict(flat, sep='/'),
    list(wanted.values()),
    skipped,
    initialized,
    resized,
  )


def state_dicts(
  variables: dict, model_name: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns our variables as arrays for PyTorch.

  Args:
    variables: params and batch_stats.
    model_name: ours, e.g. 'resnet50'.

  Returns:
    ({name: array} of backbone and classifier in timm's names and layouts, ours for a model that
    timm does not have; {name: array} of the point layer: points.weight [2K,D] and points.bias
    [2K], or attention.weight [K,D]).
  """
  flat = traverse_util.flatten_dict(variables, sep='/')
  flat = {path: np.asarray(value) for path, value in flat.items()}
  names = timm_names(variables, model_name)
  layout = to_timm_layout if model_name in TIMM_MODELS else np.ascontiguousarray
  model = {name: layout(flat[path]) for path, name in names.items()}
  points = {
    path.removeprefix('params/head/')
    .replace('/kernel', '.weight')
    .replace('/bias', '.bias'): to_timm_layout(value)
    for path, value in flat.items()
    if path not in names
  }
  return model, points


def _classifier_problem(
  state_dict: Mapping[str, np.ndarray],
  classifier: dict[str, str],
  flat: dict[str, np.ndarray],
  layout: Callable[[np.ndarray], np.ndarray],
) -> str:
  """Returns '' or why the classifier of the file cannot be used."""
  missing = [name for name in classifier.values() if name not in state_dict]
  if missing:
    return 'the file has none'
  if any('pre_logits' in name for name in state_dict):
    return "the file's follows an extra layer"
  for path, name in classifier.items():
    shape = layout(np.empty(np.shape(state_dict[name]), bool)).shape
    if shape != flat[path].shape:
      return f'the file has {shape[-1] if shape else 0} classes, the data {flat[path].shape[-1]}'
  return ''


def _check_names(
  missing: list[str], unexpected: list[str], model_name: str, source: str | os.PathLike
) -> None:
  if missing or unexpected:
    raise UserError(
      f'{source}: not the weights of a {model_name}: {len(missing)} of its arrays are missing '
      f'({", ".join(missing[:3]) or "-"}) and {len(unexpected)} are left over '
      f'({", ".join(unexpected[:3])[:200] or "-"}); set --config.model.name to the model of the '
      'file, or give a file of this model'
    )


def _resized(value: np.ndarray, tokens: int, source: str | os.PathLike) -> tuple[np.ndarray, str]:
  try:
    resized = resize_position_embeddings(value, tokens)
  except ValueError as error:
    raise UserError(f'{source}: pos_embed: {error}') from error
  old, new = (int((count - 1) ** 0.5 + 0.5) for count in (value.shape[1], tokens))
  return resized, f'{old}x{old} -> {new}x{new}'


def _format_shape(shape: tuple[int, ...]) -> str:
  return '[' + ','.join(map(str, shape)) + ']'
