"""State dicts in torch's .pth files, read without torch and without running code from the file.

A .pth file holds a pickle that builds the state dict. It is unpickled with the few names that state
dicts need mapped to functions below (the recipe "Restricting Globals" of Python's pickle
documentation). Objects that training scripts save alongside the weights (their arguments, for
example) are replaced by a placeholder that keeps nothing; any other name is refused. Nothing that
the file names is imported.

Two formats are in use: a zip (torch >= 1.6) and, for example in torchvision's older files, five
pickles in a row followed by the tensor data.
"""

import collections
import io
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# A file of the second format starts with torch.serialization's MAGIC_NUMBER and PROTOCOL_VERSION.
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
  'UntypedStorage': np.dtype('u1'),
}
_TENSOR_FUNCTIONS = (('torch._utils', '_rebuild_tensor'), ('torch._utils', '_rebuild_tensor_v2'))
_PARAMETER_FUNCTIONS = (('torch._utils', '_rebuild_parameter'), ('torch.nn.parameter', 'Parameter'))
# If a training checkpoint has several sets of weights, the first of these keys is read: averaged
# weights before others, as in timm.
_WRAPPERS = (
  'state_dict_ema',
  'model_ema',
  'model_ema_state_dict',
  'ema_state_dict',
  'ema',
  'state_dict',
  'model_state_dict',
  'model',
  'net',
)
# What training scripts save alongside the weights: modules, and names of builtins and torch.
_IGNORED_MODULES = re.compile(
  r'(argparse|collections|datetime|pathlib|types|enum|addict|easydict|ml_collections|omegaconf|yacs'
  r'|numpy|torch\.optim|_codecs)(\..*)?'
)
_IGNORED_BUILTINS = 'bool bytes bytearray complex dict float frozenset int list set slice str tuple'
_IGNORED_TORCH = ('device', 'Size', 'Generator')
_TORCH_DTYPE = re.compile(r'b?float\w*|u?int\d+|bool|complex\d+')
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
  """A view of a storage; offset and strides in elements.

  `dtype` is torch's name of a dtype that has no storage class and is kept in one of bytes, or ''.
  """

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  dtype: str = ''


class _Ignored:
  """Placeholder for an object saved with the weights: accepts any unpickling, keeps nothing."""

  def __new__(cls, *_args: Any, **_kwargs: Any) -> '_Ignored':
    return super().__new__(cls)

  def __init__(self, *_args: Any, **_kwargs: Any) -> None:
    pass

  def _nothing(self, *_args: Any) -> None:
    pass

  __setstate__ = __setitem__ = append = extend = add = update = _nothing


class _Unpickler(pickle.Unpickler):
  """Unpickles tensors as `_Tensor`s; `storages` holds the storages that they refer to, by key."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file, encoding='utf-8')  # for strings from Python 2, as in torch
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    # Returns bound methods and strings, on which a pickle cannot set attributes.
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) in _TENSOR_FUNCTIONS:
      return self._tensor
    if (module, name) in _PARAMETER_FUNCTIONS:
      return self._parameter
    if (module, name) == ('torch._utils', '_rebuild_tensor_v3'):
      return self._tensor_v3
    if module in ('torch', 'torch.storage') and (name in _DTYPES or _TORCH_DTYPE.fullmatch(name)):
      return name
    if (
      _IGNORED_MODULES.fullmatch(module)
      or (module in ('builtins', '__builtin__') and name in _IGNORED_BUILTINS.split())
      or (module == 'torch' and name in _IGNORED_TORCH)
    ):
      # A new class each time, because a pickle may set attributes on it.
      return type('Ignored', (_Ignored,), {})
    raise BadTorchFile(
      f'it refers to {f"{module}.{name}":.80}, code that is not part of weights and was not run'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    kind, storage_type, key, _, size, *view = pid
    if kind != 'storage' or view not in ([], [None]) or not isinstance(key, str) or size < 0:
      raise ValueError(f'storage {pid!r:.60}')
    self.storages[key] = _Storage(key, _DTYPES[storage_type], int(size))
    return self.storages[key]

  def _tensor(
    self,
    storage: _Storage,
    offset: int,
    shape: Iterable[int],
    strides: Iterable[int],
    *_unused: Any,
  ) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))

  def _tensor_v3(self, *parts: Any) -> _Tensor:
    storage, offset, shape, strides, _grad, _hooks, dtype, *_unused = parts
    return _Tensor(storage, offset, tuple(shape), tuple(strides), dtype)

  def _parameter(self, tensor: _Tensor, *_unused: Any) -> _Tensor:
    return tensor


def read_zip(archive: zipfile.ZipFile) -> tuple[dict[str, np.ndarray], str]:
  """Reads the state dict from an open zip file written by torch.

  Returns:
    (the state dict as {name: read-only array in the file's dtype}, its key in a training
    checkpoint or '').

  Raises:
    BadTorchFile: the file is damaged or holds more than tensors.
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


def read_stream(data: bytes) -> tuple[dict[str, np.ndarray], str]:
  """Like `read_zip`, for the bytes of a file in the older format."""
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


def _state_dict(content: Any, values: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
  """Returns ({name: array} of the weights in an unpickled object, their key or '')."""
  found = _find_weights(content)
  by_wrapper = {key.split('.')[0]: key for key in reversed(found)}
  key = next((by_wrapper[key] for key in _WRAPPERS if key in by_wrapper), min(found, default=''))
  if not found:
    raise BadTorchFile('it holds no state dict')
  if len(found) > 1 and key.split('.')[0] not in _WRAPPERS:
    raise BadTorchFile(f'it holds several networks ({", ".join(found):.100})')
  arrays = {name: _view(tensor, values[tensor.storage.key]) for name, tensor in found[key].items()}
  return arrays, key


def _find_weights(content: Any) -> dict[str, dict[str, _Tensor]]:
  """{key: {name: tensor}} of the dicts, at any depth, with a module's tensor ('conv1.weight')."""
  found, seen, parts = {}, set(), [('', content)]
  for key, part in parts:  # grows inside the loop
    if isinstance(part, dict) and id(part) not in seen:
      seen.add(id(part))
      tensors = {str(name): value for name, value in part.items() if isinstance(value, _Tensor)}
      if any('.' in name for name in tensors):
        found[key] = tensors
      else:
        parts += [(f'{key}.{name}'.strip('.'), value) for name, value in part.items()]
      if part is content:
        top = tensors
  return found or ({'': top} if isinstance(content, dict) and top else {})


def _view(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
  """Returns a tensor as an array, a view of the values of its storage."""
  storage, offset, shape, strides, dtype = tensor
  if not all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides)):
    raise ValueError('a tensor with a negative size')
  complete = len(values) == storage.size
  if dtype:
    values = values.view(dtype)  # numpy knows the names of ml_dtypes, too
  if not complete or math.prod(shape) > len(values):
    raise ValueError('a tensor that is not completely in the file')
  if not math.prod(shape):
    return np.zeros(shape, values.dtype)
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  if last >= len(values):
    raise ValueError('a tensor that extends beyond its storage')
  return np.lib.stride_tricks.as_strided(
    values[offset:], shape, [stride * values.itemsize for stride in strides], writeable=False
  )
