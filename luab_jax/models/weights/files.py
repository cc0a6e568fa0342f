"""Reads pretrained weights as named arrays; nothing in the files is executed.

The format is recognized by the first bytes, not by the name: safetensors, torch's .pth (both kinds,
see `torch_pickle`) and the .npz of augreg and big_vision.
"""

import os
import pathlib
import re
import struct
import tokenize
import zipfile
import zlib
from typing import NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from luab_jax.errors import UserError
from luab_jax.models.weights import torch_pickle

# For arrays of 8 bits or fewer, whose scales are stored separately.
EXPECTED = 'expected 16, 32 or 64-bit floating point: convert the weights, applying their scales'
_MAX_BYTES = 4 << 30  # of all arrays together; a ViT-B/16 has 0.35 GB


class WeightFile(NamedTuple):
  """The contents of a weight file.

  Attributes:
    arrays: {name: array in the file's dtype}.
    kind: 'safetensors', 'pth' or 'npz'.
    metadata: {key: text}; safetensors only.
    part: the key of the arrays in a training checkpoint, such as 'model_ema'; '' without one.
  """

  arrays: dict[str, np.ndarray]
  kind: str
  metadata: dict[str, str]
  part: str = ''


def read(path: str | os.PathLike) -> WeightFile:
  """Reads a weight file.

  Raises:
    UserError: the file cannot be read, is damaged or too large, has another format, or is a .pth
      file that holds more than tensors.
  """
  try:
    with open(path, 'rb') as file:
      start = file.read(9)
    if pathlib.Path(path).stat().st_size > _MAX_BYTES:
      raise ValueError(f'it is larger than {_MAX_BYTES >> 30} GiB')
    if start[8:] == b'{':  # first, because the 8 bytes before it are a length and may be anything
      return _read_safetensors(path)
    if start[:2] == b'PK':
      return _read_zip(path)
    if start[:1] == b'\x80':
      arrays, part = torch_pickle.read_stream(pathlib.Path(path).read_bytes())
      return WeightFile(arrays, 'pth', {}, part)
    raise ValueError('it is not a safetensors, .pth or .npz file')
  except torch_pickle.BadTorchFile as error:
    raise UserError(
      f'{path}: {error}; give a .safetensors file, or one with the bare state dict: '
      'torch.save(model.state_dict(), FILE)'
    ) from error
  except (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    EOFError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
  ) as error:
    raise UserError(
      f'{path} cannot be read as weights: {" ".join(str(error).split())[:200] or "it is truncated"}'
    ) from error


def _read_safetensors(path: str | os.PathLike) -> WeightFile:
  with safetensors.safe_open(path, framework='np') as file:
    names = list(file.keys())
    for name in names:
      dtype = file.get_slice(name).get_dtype()
      if re.match('F[48]', dtype):
        raise ValueError(f'{name} has dtype {dtype}, {EXPECTED}')
    arrays = {name: file.get_tensor(name) for name in names}
    return WeightFile(arrays, 'safetensors', dict(file.metadata() or {}))


def _read_zip(path: str | os.PathLike) -> WeightFile:
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
      raise ValueError(f'its arrays claim more than {_MAX_BYTES >> 30} GiB')
    if any(name.split('/')[1:] == ['data.pkl'] for name in names):
      arrays, part = torch_pickle.read_zip(archive)
      return WeightFile(arrays, 'pth', {}, part)
  if not names or not all(name.endswith('.npy') for name in names):
    raise ValueError("it is a zip file, but neither torch's (data.pkl) nor numpy's (only .npy)")
  with np.load(path, allow_pickle=False) as arrays:
    return WeightFile({name: _number_array(name, arrays[name]) for name in arrays}, 'npz', {})


def _number_array(name: str, array: np.ndarray) -> np.ndarray:
  if array.dtype == 'V2':  # numpy saves bfloat16 like this
    return array.view(ml_dtypes.bfloat16)
  if array.dtype.kind not in 'biuf':
    raise ValueError(f'{name} has dtype {array.dtype!s:.40}, expected numbers')
  return array
