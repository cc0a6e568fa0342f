"""Converts ViT weights of torchvision, augreg and big_vision to timm's names and layouts."""

import os
import re

import numpy as np

from luab_jax.errors import UserError

# For torchvision.models.vit_b_16, applied in this order; mlp.linear_1 is mlp.0 in newer files.
_TORCHVISION = (
  (r'^class_token$', 'cls_token'),
  (r'^encoder\.pos_embedding$', 'pos_embed'),
  (r'^conv_proj\.', 'patch_embed.proj.'),
  (r'^encoder\.ln\.', 'norm.'),
  (r'^heads\.head\.', 'head.'),
  (r'^encoder\.layers\.encoder_layer_(\d+)\.', r'blocks.\1.'),
  (r'\.ln_(\d)\.', r'.norm\1.'),
  (r'\.self_attention\.in_proj_(weight|bias)', r'.attn.qkv.\1'),
  (r'\.self_attention\.out_proj\.', '.attn.proj.'),
  (r'\.mlp\.(linear_1|0)\.', '.mlp.fc1.'),
  (r'\.mlp\.(linear_2|3)\.', '.mlp.fc2.'),
)


def from_torchvision(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Renames the arrays of torchvision's vit_b_16 to timm's names."""
  renamed = {}
  for name, value in state_dict.items():
    for pattern, replacement in _TORCHVISION:
      name = re.sub(pattern, replacement, name)
    renamed[name] = value
  return renamed


def from_flax(arrays: dict[str, np.ndarray], source: str | os.PathLike) -> dict[str, np.ndarray]:
  """Converts the arrays of a ViT's .npz to timm's names and layouts.

  Args:
    arrays: {name: array} as named by augreg ('opt/target/…' or no prefix) or big_vision
      ('params/…', 'params/img/…'), with separate blocks or all blocks stacked (scan).
    source: name of the file, for error messages.

  Returns:
    {name: array}; unknown names are kept.

  Raises:
    UserError: these are not the arrays of a ViT with a class token.
  """
  prefix = next(
    (p for p in ('params/img/', 'params/', 'opt/target/', '') if f'{p}embedding/kernel' in arrays),
    None,
  )
  if prefix is None or f'{prefix}cls' not in arrays:
    raise UserError(
      f'{source}: not the .npz of a ViT with a class token (no embedding/kernel, or no cls); give '
      "one of augreg's, or of big_vision with pool_type='tok'"
    )
  arrays = _unstack(
    {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
  )
  rename = {
    'cls': 'cls_token',
    'pos_embedding': 'pos_embed',
    'Transformer/posembed_input/pos_embedding': 'pos_embed',
    'embedding/kernel': 'patch_embed.proj.weight',
    'embedding/bias': 'patch_embed.proj.bias',
    'Transformer/encoder_norm/scale': 'norm.weight',
    'Transformer/encoder_norm/bias': 'norm.bias',
    'head/kernel': 'head.weight',
    'head/bias': 'head.bias',
    'pre_logits/kernel': 'pre_logits.fc.weight',
    'pre_logits/bias': 'pre_logits.fc.bias',
  }
  state = {}
  for name, value in arrays.items():
    block = re.fullmatch(r'Transformer/encoderblock_(\d+)/(.+)', name)
    if not block:
      state[rename.get(name, name)] = _to_torch(value)
  blocks = sorted(
    {match[1] for name in arrays if (match := re.match(r'Transformer/encoderblock_(\d+)/', name))},
    key=int,
  )
  try:
    for i in blocks:
      start = f'Transformer/encoderblock_{i}/'
      state |= _block(
        f'blocks.{i}.',
        {name.removeprefix(start): v for name, v in arrays.items() if name.startswith(start)},
      )
  except (KeyError, ValueError) as error:
    raise UserError(f'{source}: block {i} is not that of a plain ViT ({error})') from error
  return state


def _unstack(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Splits 'encoderblock', all blocks stacked on the first axis, into 'encoderblock_0', …"""
  stacked = 'Transformer/encoderblock/'
  split = {name: value for name, value in arrays.items() if not name.startswith(stacked)}
  for name in arrays.keys() - split.keys():
    for i, value in enumerate(arrays[name]):
      split[f'Transformer/encoderblock_{i}/{name.removeprefix(stacked)}'] = value
  return split


def _block(start: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns one encoder block as {timm's name: array}.

  The modules are numbered differently in augreg (norm, attention, norm, mlp are 0, 1, 2, 3) and in
  big_vision (0, 0, 1, 0).
  """
  norms = sorted({name.split('/')[0] for name in arrays if name.startswith('LayerNorm_')})
  attentions = sorted({n.split('/')[0] for n in arrays if n.startswith('MultiHeadDotProduct')})
  mlps = sorted({name.split('/')[0] for name in arrays if name.startswith('MlpBlock_')})
  if (len(norms), len(attentions), len(mlps)) != (2, 1, 1):
    raise ValueError(f'{len(norms)} norms, {len(attentions)} attentions, {len(mlps)} mlps')
  (attention,), (mlp,) = attentions, mlps
  qkv = {
    kind: [arrays[f'{attention}/{part}/{kind}'] for part in ('query', 'key', 'value')]
    for kind in ('kernel', 'bias')
  }
  dim = qkv['kernel'][0].shape[0]
  state = {
    'attn.qkv.weight': np.concatenate([kernel.reshape(dim, -1) for kernel in qkv['kernel']], 1).T,
    'attn.qkv.bias': np.concatenate([bias.reshape(-1) for bias in qkv['bias']]),
    'attn.proj.weight': arrays[f'{attention}/out/kernel'].reshape(-1, dim).T,
    'attn.proj.bias': arrays[f'{attention}/out/bias'],
  }
  for i, norm in enumerate(norms, 1):
    state[f'norm{i}.weight'] = arrays[f'{norm}/scale']
    state[f'norm{i}.bias'] = arrays[f'{norm}/bias']
  for i in (1, 2):
    state[f'mlp.fc{i}.weight'] = arrays[f'{mlp}/Dense_{i - 1}/kernel'].T
    state[f'mlp.fc{i}.bias'] = arrays[f'{mlp}/Dense_{i - 1}/bias']
  return {start + name: value for name, value in state.items()}


def _to_torch(value: np.ndarray) -> np.ndarray:
  """Transposes [h,w,in,out] to [out,in,h,w], [in,out] to [out,in]."""
  if value.ndim == 4:
    return value.transpose(3, 2, 0, 1)
  return value.T if value.ndim == 2 else value
