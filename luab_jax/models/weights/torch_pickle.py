"""State dicts in torch's .pth files, read without torch and without running code from the file.

A .pth file holds a pickle that builds the state dict. It is unpickled with the few names that state
dicts need mapped to functions below (the recipe "Restricting Globals" of Python's pickle
documentation); any other name is refused, and nothing is imported by a name from the file.

Two formats are in use: a zip (torch >= 1.6) and, for example in torchvision's older files, five
pickles in a row followed by the data of the tensors.
"""

import collections
import io
import math
import pickle
import struct
import zipfile
import zlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# The first things in a file of the second format: torch.serialization's MAGIC_NUMBER and version.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('?'),
}
_TENSOR_FUNCTIONS = (('torch._utils', '_rebuild_tensor'), ('torch._utils', '_rebuild_tensor_v2'))
_PARAMETER_FUNCTIONS = (('torch._utils', '_rebuild_parameter'), ('torch.nn.parameter', 'Parameter'))
# Keys under which training checkpoints hold the weights; averaged weights first, as in timm.
_WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_DAMAGE = (
  pickle.UnpicklingError,
  ValueError,
  TypeError,
  LookupError,
  AttributeError,
  ArithmeticError,
  MemoryError,
  RuntimeError,
  EOFError,
  struct.error,
  zipfile.BadZipFile,
  zlib.error,
)


class BadTorchFile(Exception):
  """A file that is damaged or holds more than tensors; the message says what."""


class _Storage(NamedTuple):
  key: str
  dtype: np.dtype
  size: int  # in elements


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
  """Unpickles tensors as `_Tensor`s; `storages` are those that they refer to, by key."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file, encoding='utf-8')  # of strings from Python 2, as in torch
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    # Bound methods and strings, whose attributes a pickle cannot set.
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) in _TENSOR_FUNCTIONS:
      return self._tensor
    if (module, name) in _PARAMETER_FUNCTIONS:
      return self._parameter
    if module == 'torch' and name in _DTYPES:
      return name
    raise BadTorchFile(
      f'it names the code {f"{module}.{name}":.80}, which is no part of weights and was not run'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    kind, storage_type, key, _, size, *view = pid
    if kind != 'storage' or view not in ([], [None]) or not isinstance(key, str) or size < 0:
      raise ValueError(f'storage {pid!r:.60}')
    self.storages[key] = _Storage(key, _DTYPES[storage_type], int(size))
    return self.storages[key]

  def _tensor(self, storage, offset, shape, strides, *_unused) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))

  def _parameter(self, tensor, *_unused) -> _Tensor:
    return tensor


def read_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  """Reads an open zip of torch's.

  Returns:
    The state dict: {name: read-only array in the file's dtype}.

  Raises:
    BadTorchFile: it is damaged or holds more than tensors.
  """
  try:
    names = archive.namelist()
    root = next(name.split('/')[0] for name in names if name.split('/')[1:] == ['data.pkl'])
    if f'{root}/byteorder' in names and archive.read(f'{root}/byteorder') != b'little':
      raise BadTorchFile('its numbers are big-endian')
    unpickler = _Unpickler(io.BytesIO(archive.read(f'{root}/data.pkl')))
    content = unpickler.load()
    values = {
      key: np.frombuffer(archive.read(f'{root}/data/{key}'), storage.dtype)
      for key, storage in unpickler.storages.items()
    }
    return _state_dict(content, values)
  except _DAMAGE as error:
    raise BadTorchFile(f'it is damaged ({type(error).__name__}: {error!s:.100})') from error


def read_stream(data: bytes) -> dict[str, np.ndarray]:
  """The same for the bytes of a file of the older format."""
  try:
    file = io.BytesIO(data)
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (_MAGIC, _PROTOCOL):
      raise BadTorchFile("it is a pickle, but not one of torch's")
    if not _Unpickler(file).load()['little_endian']:
      raise BadTorchFile('its numbers are big-endian')
    unpickler = _Unpickler(file)
    content = unpickler.load()
    values = {}
    for key in _Unpickler(file).load():
      (size,) = struct.unpack('<q', file.read(8))
      values[key] = np.frombuffer(data, unpickler.storages[key].dtype, size, file.tell())
      file.seek(values[key].nbytes, io.SEEK_CUR)
    return _state_dict(content, values)
  except _DAMAGE as error:
    raise BadTorchFile(f'it is damaged ({type(error).__name__}: {error!s:.100})') from error


def _state_dict(content: Any, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns {name: array} of the tensors in an unpickled object."""
  for key in _WRAPPERS:
    if isinstance(content, dict) and isinstance(content.get(key), dict):
      content = content[key]
      break
  if not isinstance(content, dict):
    raise BadTorchFile('it holds no state dict')
  return {
    str(name): _view(value, values[value.storage.key])
    for name, value in content.items()
    if isinstance(value, _Tensor)
  }


def _view(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
  """Returns the array that a tensor is, a view of the values of its storage."""
  storage, offset, shape, strides = tensor
  if not all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides)):
    raise ValueError('a tensor of negative size')
  if len(values) != storage.size or math.prod(shape) > storage.size:
    raise ValueError('a tensor that is not all in the file')
  if not math.prod(shape):
    return np.zeros(shape, storage.dtype)
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  if last >= storage.size:
    raise ValueError('a tensor that reaches over its storage')
  return np.lib.stride_tricks.as_strided(
    values[offset:], shape, [stride * values.itemsize for stride in strides], writeable=False
  )
