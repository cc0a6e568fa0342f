"""Hand-made weight files: torch's two .pth formats, and a ViT with other projects' names."""

import io
import struct
import zipfile

import ml_dtypes
import numpy as np

STORAGES = {
  np.dtype('f4'): 'FloatStorage',
  np.dtype('f2'): 'HalfStorage',
  np.dtype('i8'): 'LongStorage',
  np.dtype(ml_dtypes.bfloat16): 'BFloat16Storage',
}

_RNG = np.random.default_rng(0)
ARRAYS = {
  'a': _RNG.normal(size=(2, 3)).astype('f4'),
  'b': _RNG.normal(size=5).astype('f2'),
  'c': _RNG.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
  'n.num_batches_tracked': np.array(7),
}


def text(value):
  """Pickle instruction that pushes a string."""
  return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def number(value):
  """Instruction that pushes an int."""
  return b'J' + struct.pack('<i', value)


def numbers(values):
  """Instructions that push a tuple of ints."""
  return b'(' + b''.join(map(number, values)) + b't'


def tensor(key, array, *, shape=None, strides=None, offset=0):
  """Instructions that push a tensor on the storage `key`, which holds the elements of `array`."""
  shape = array.shape if shape is None else shape
  strides = [s // array.itemsize for s in array.strides] if strides is None else strides
  storage = (
    b'('
    + text('storage')
    + f'ctorch\n{STORAGES[array.dtype]}\n'.encode()
    + text(key)
    + text('cpu')
    + number(array.size)
    + b'tQ'
  )
  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n('
    + storage
    + number(offset)
    + numbers(shape)
    + numbers(strides)
    + b'\x89ccollections\nOrderedDict\n)RtR'
  )


def ordered_dict(entries):
  """Instructions that push an OrderedDict of {name: instructions}, as state_dict() gives it."""
  items = b''.join(text(name) + value for name, value in entries.items())
  metadata = b'}' + text('_metadata') + b'ccollections\nOrderedDict\n)Rsb'
  return b'ccollections\nOrderedDict\n)R(' + items + b'u' + metadata


def state_dict(arrays):
  """Instructions for the state dict of some arrays, on the storages '0', '1' and so on."""
  return ordered_dict({name: tensor(str(i), v) for i, (name, v) in enumerate(arrays.items())})


def torch_zip(path, program, storages, compression=zipfile.ZIP_STORED):
  """Writes torch.save's current format: the pickle `program` and the arrays of its storages."""
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02' + program + b'.')
    archive.writestr('archive/byteorder', 'little')
    for i, array in enumerate(storages):
      archive.writestr(f'archive/data/{i}', array.tobytes(order='A'))
    archive.writestr('archive/version', '3\n')


def torch_stream(path, program, storages):
  """Writes torch.save's format before version 1.6."""
  file = io.BytesIO()
  file.write(b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.')
  file.write(
    b'\x80\x02}(' + text('protocol_version') + b'M\xe9\x03' + text('little_endian') + b'\x88u.'
  )
  file.write(b'\x80\x02' + program + b'.')
  keys = b''.join(text(str(i)) for i in range(len(storages)))
  file.write(b'\x80\x02](' + keys + b'e.')
  for array in storages:
    file.write(struct.pack('<q', array.size) + array.tobytes(order='A'))
  path.write_bytes(file.getvalue())


def flax_names(state, heads, *, big_vision, stacked=False, prefix=''):
  """A ViT's state dict with timm's names as augreg or big_vision would have saved it.

  Args:
    state: {timm's name: array}.
    heads: number of attention heads.
    big_vision: whether to use its names instead of augreg's.
    stacked: whether all blocks are in one array (big_vision's scan).
    prefix: put before every name.
  """
  dim = state['cls_token'].shape[2]
  out = {
    'cls': state['cls_token'],
    'embedding/kernel': state['patch_embed.proj.weight'].transpose(2, 3, 1, 0),
    'embedding/bias': state['patch_embed.proj.bias'],
    'Transformer/encoder_norm/scale': state['norm.weight'],
    'Transformer/encoder_norm/bias': state['norm.bias'],
    'head/kernel': state['head.weight'].T,
    'head/bias': state['head.bias'],
    'pos_embedding' if big_vision else 'Transformer/posembed_input/pos_embedding': state[
      'pos_embed'
    ],
  }
  attention, norm2, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
  depth = sum(name.endswith('norm1.bias') for name in state)
  for i in range(depth):
    block = {
      name.removeprefix(f'blocks.{i}.'): v
      for name, v in state.items()
      if name.startswith(f'blocks.{i}.')
    }
    new = {
      f'LayerNorm_{k}/{ours}': block[f'norm{j}.{theirs}']
      for j, k in ((1, 0), (2, norm2))
      for ours, theirs in (('scale', 'weight'), ('bias', 'bias'))
    }
    for j, part in enumerate(('query', 'key', 'value')):
      rows = slice(j * dim, (j + 1) * dim)
      new[f'MultiHeadDotProductAttention_{attention}/{part}/kernel'] = block['attn.qkv.weight'][
        rows
      ].T.reshape(dim, heads, -1)
      new[f'MultiHeadDotProductAttention_{attention}/{part}/bias'] = block['attn.qkv.bias'][
        rows
      ].reshape(heads, -1)
    new[f'MultiHeadDotProductAttention_{attention}/out/kernel'] = block[
      'attn.proj.weight'
    ].T.reshape(heads, -1, dim)
    new[f'MultiHeadDotProductAttention_{attention}/out/bias'] = block['attn.proj.bias']
    for j in (1, 2):
      new[f'MlpBlock_{mlp}/Dense_{j - 1}/kernel'] = block[f'mlp.fc{j}.weight'].T
      new[f'MlpBlock_{mlp}/Dense_{j - 1}/bias'] = block[f'mlp.fc{j}.bias']
    out |= {f'Transformer/encoderblock_{i}/{name}': value for name, value in new.items()}
  if stacked:
    first = 'Transformer/encoderblock_0/'
    for name in [n.removeprefix(first) for n in out if n.startswith(first)]:
      out[f'Transformer/encoderblock/{name}'] = np.stack(
        [out.pop(f'Transformer/encoderblock_{i}/{name}') for i in range(depth)]
      )
  return {prefix + name: value for name, value in out.items()}


def torchvision_names(state):
  """A ViT's state dict with timm's names under the names of torchvision's vit_b_16."""
  import re

  out = {}
  for name, value in state.items():
    name = {'cls_token': 'class_token', 'pos_embed': 'encoder.pos_embedding'}.get(name, name)
    name = re.sub(r'^patch_embed\.proj', 'conv_proj', name)
    name = re.sub(r'^norm\.', 'encoder.ln.', name)
    name = re.sub(r'^head\.', 'heads.head.', name)
    name = re.sub(r'^blocks\.(\d+)\.', r'encoder.layers.encoder_layer_\1.', name)
    name = re.sub(r'\.norm(\d)\.', r'.ln_\1.', name)
    name = name.replace('.attn.qkv.', '.self_attention.in_proj_')
    name = name.replace('.attn.proj.', '.self_attention.out_proj.')
    out[name.replace('.mlp.fc1.', '.mlp.0.').replace('.mlp.fc2.', '.mlp.3.')] = value
  return out
