"""Weights of others, read from their files as named arrays; no file can run anything.

Formats are told apart by their first bytes, not by the name: safetensors, torch's .pth (both
kinds, see luab_jax/models/weights/torch_pickle.py), and the .npz of augreg and big_vision.
"""

import os
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import numpy as np
import safetensors

from luab_jax.byproducts.archives import npy, zip_members
from luab_jax.errors import UserError
from luab_jax.models.weights import torch_pickle

_MAX_BYTES = 4 << 30  # of all arrays together; a ViT-B/16 has 0.35 GB


class WeightFile(NamedTuple):
  """What a file holds.

  Attributes:
    arrays: {name: array in the file's dtype}.
    kind: 'safetensors', 'pth' or 'npz'.
    metadata: {key: text}, of safetensors alone.
  """

  arrays: dict[str, np.ndarray]
  kind: str
  metadata: dict[str, str]


def read(path: str | os.PathLike) -> WeightFile:
  """Reads a file of weights.

  Raises:
    UserError: it cannot be read, is damaged, of another format, too large, or (a .pth) holds more
      than tensors.
  """
  try:
    with open(path, 'rb') as file:
      start = file.read(9)
    if pathlib.Path(path).stat().st_size > _MAX_BYTES:
      raise ValueError(f'it is larger than {_MAX_BYTES >> 30} GiB')
    if start[8:] == b'{':  # first: the eight bytes before it are a length, any bytes
      return _read_safetensors(path)
    if start[:2] == b'PK':
      return _read_zip(path)
    if start[:1] == b'\x80':
      return WeightFile(torch_pickle.read_stream(pathlib.Path(path).read_bytes()), 'pth', {})
    raise ValueError('it is no safetensors, .pth or .npz file')
  except torch_pickle.BadTorchFile as error:
    raise UserError(
      f'{path}: {error}; give a .safetensors file, or one with the bare state dict: '
      'torch.save(model.state_dict(), FILE)'
    ) from error
  except (
    OSError,
    ValueError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
  ) as error:
    raise UserError(
      f'{path} cannot be read as weights: {" ".join(str(error).split())[:200] or "it is cut off"}'
    ) from error


def _read_safetensors(path):
  with safetensors.safe_open(path, framework='np') as file:
    arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    return WeightFile(arrays, 'safetensors', dict(file.metadata() or {}))


def _read_zip(path):
  with zip_members.open_zip(path) as archive:
    members = archive.infolist()
    if any(info.filename.split('/')[1:] == ['data.pkl'] for info in members):
      return WeightFile(torch_pickle.read_zip(archive), 'pth', {})
    if not members or any(not info.filename.endswith('.npy') for info in members):
      raise ValueError('it is a zip, but neither of torch (data.pkl) nor of numpy (only .npy)')
    if sum(info.file_size for info in members) > _MAX_BYTES:
      raise ValueError(f'its arrays claim more than {_MAX_BYTES >> 30} GiB')
    arrays = {}
    for info in members:
      with zip_members.open_member(archive, info) as file:
        try:
          arrays[info.filename.removesuffix('.npy')] = npy.parse(file.read())
        except ValueError as error:
          raise ValueError(f'{info.filename}: {error}') from error
    return WeightFile(arrays, 'npz', {})
