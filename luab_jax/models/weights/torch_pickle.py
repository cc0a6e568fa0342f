"""State dicts out of torch's .pth files, without torch, and without doing what the file says.

Such a file holds pickles: little programs that build the state dict. `pickletools.genops` lists
their instructions. Those that make strings, numbers, tuples, lists and dicts are followed here; of
names of code, the few that torch's own state dicts need are known and stand for the code below.
Nothing is imported, looked up or called by a name from the file; any other name is refused.

Two formats, both still in use: a zip (torch >= 1.6) and, for example in torchvision's older files,
five pickles in a row with the numbers after them.
"""

import io
import math
import pickletools
import struct
import zipfile
import zlib
from typing import NamedTuple

import ml_dtypes
import numpy as np

from luab_jax.byproducts.archives import zip_members

# The first things in a file of the second format: torch.serialization's MAGIC_NUMBER and version.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_INSTRUCTIONS = 2_000_000  # a ResNet-152 takes 60,000
_STORAGES = {
  f'torch {name}Storage': np.dtype(dtype)
  for name, dtype in {
    'Double': '<f8',
    'Float': '<f4',
    'Half': '<f2',
    'BFloat16': ml_dtypes.bfloat16,
    'Long': '<i8',
    'Int': '<i4',
    'Short': '<i2',
    'Char': 'i1',
    'Byte': 'u1',
    'Bool': '?',
  }.items()
}
_ORDERED_DICT = 'collections OrderedDict'
_TENSORS = ('torch._utils _rebuild_tensor', 'torch._utils _rebuild_tensor_v2')
_PARAMETERS = ('torch._utils _rebuild_parameter', 'torch.nn.parameter Parameter')
_KNOWN = {_ORDERED_DICT, *_TENSORS, *_PARAMETERS, *_STORAGES}
# Instructions that stand for a number or a string; 'STRING's are those of Python 2.
_VALUES = (
  'BININT',
  'BININT1',
  'BININT2',
  'INT',
  'LONG',
  'LONG1',
  'LONG4',
  'BINFLOAT',
  'FLOAT',
  'BINUNICODE',
  'SHORT_BINUNICODE',
  'BINUNICODE8',
  'SHORT_BINSTRING',
  'BINSTRING',
  'SHORT_BINBYTES',
  'BINBYTES',
)
# Under which of its entries a training checkpoint holds the weights; averaged ones first, as timm.
_WRAPPERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')
_DAMAGE = (
  ValueError,
  TypeError,
  LookupError,
  AttributeError,
  ArithmeticError,
  MemoryError,
  RecursionError,
  struct.error,
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
)


class BadTorchFile(Exception):
  """A file that is damaged, or holds more than tensors; the message says what."""


class _Code(NamedTuple):
  """A name of code in a pickle, 'module name'."""

  name: str


class _Storage(NamedTuple):
  key: str
  dtype: np.dtype
  count: int  # type: ignore[assignment]


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides in elements."""

  storage: _Storage
  offset: int
  shape: tuple
  strides: tuple


def read_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
  """The state dict in an open zip of torch's: {name: read-only array in the file's dtype}.

  Raises BadTorchFile.
  """
  try:
    members = {info.filename: info for info in archive.infolist()}
    index = next(name for name in members if name.split('/')[1:] == ['data.pkl'])
    root = index.split('/')[0]
    if archive.fp and sum(info.file_size for info in members.values()) > _size(archive.fp):
      raise BadTorchFile('its members are larger than the file')

    def read(name):
      with zip_members.open_member(archive, members[name]) as file:
        return file.read()

    if f'{root}/byteorder' in members and read(f'{root}/byteorder') != b'little':
      raise BadTorchFile('its numbers are big-endian')
    content, storages = _interpret(io.BytesIO(read(index)))
    numbers = {
      storage.key: np.frombuffer(read(f'{root}/data/{storage.key}'), storage.dtype)
      for storage in storages.values()
    }
    return _state_dict(content, numbers)
  except _DAMAGE as error:
    raise BadTorchFile(f'it is damaged ({type(error).__name__}: {error!s:.100})') from error


def read_stream(data: bytes) -> dict[str, np.ndarray]:
  """The same for the bytes of a file of the older format."""
  try:
    file = io.BytesIO(data)
    if (_interpret(file)[0], _interpret(file)[0]) != (_MAGIC, _PROTOCOL):
      raise BadTorchFile('it is a pickle, but none of torch')
    if not _interpret(file)[0]['little_endian']:
      raise BadTorchFile('its numbers are big-endian')
    content, storages = _interpret(file)
    numbers = {}
    for key in _interpret(file)[0]:
      (count,) = struct.unpack('<q', file.read(8))
      numbers[key] = np.frombuffer(data, storages[key].dtype, count, file.tell())
      file.seek(numbers[key].nbytes, io.SEEK_CUR)
    return _state_dict(content, numbers)
  except _DAMAGE as error:
    raise BadTorchFile(f'it is damaged ({type(error).__name__}: {error!s:.100})') from error


def _size(file):
  place = file.tell()
  size = file.seek(0, io.SEEK_END)
  file.seek(place)
  return size


def _interpret(file):
  """Follows one pickle. Returns (what it builds, {key: _Storage} of the storages it names)."""
  stack, marks, memo, storages = [], [], {}, {}

  def pop_to_mark():
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items

  for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
    name = opcode.name
    if count > _MAX_INSTRUCTIONS:
      raise BadTorchFile('it builds something far larger than a network')
    if name in ('PROTO', 'FRAME'):
      continue
    if name == 'STOP':
      return stack.pop(), storages
    if name == 'MARK':
      marks.append(len(stack))
    elif name == 'NONE':
      stack.append(None)
    elif name in ('NEWTRUE', 'NEWFALSE'):
      stack.append(name == 'NEWTRUE')
    elif name in ('EMPTY_DICT', 'EMPTY_LIST', 'EMPTY_TUPLE'):
      stack.append({'DICT': dict, 'LIST': list, 'TUPLE': tuple}[name[6:]]())
    elif name in ('TUPLE', 'LIST'):
      stack.append({'TUPLE': tuple, 'LIST': list}[name](pop_to_mark()))
    elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
      size = int(name[-1])
      stack[-size:] = [tuple(stack[-size:])]
    elif name in ('BINPUT', 'LONG_BINPUT', 'PUT'):
      memo[argument] = stack[-1]
    elif name == 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET', 'GET'):
      stack.append(memo[argument])
    elif name == 'APPEND':
      _extend(stack, [stack.pop()])
    elif name == 'APPENDS':
      _extend(stack, pop_to_mark())
    elif name == 'SETITEM':
      _update(stack, [stack.pop(-2), stack.pop()])
    elif name == 'SETITEMS':
      _update(stack, pop_to_mark())
    elif name == 'BUILD':
      stack.pop()  # attributes of an OrderedDict: torch's version numbers of modules
    elif name in ('GLOBAL', 'STACK_GLOBAL'):
      if name == 'STACK_GLOBAL':
        argument = ' '.join([stack.pop(-2), stack.pop()])
      stack.append(_code(argument))
    elif name == 'BINPERSID':
      storage = _storage(stack.pop())
      storages[storage.key] = storage
      stack.append(storage)
    elif name == 'REDUCE':
      arguments, code = stack.pop(), stack.pop()
      stack.append(_build(code, arguments))
    elif name in _VALUES:
      stack.append(argument)
    else:
      raise BadTorchFile(f'it holds more than tensors (pickle instruction {name})')
  raise BadTorchFile('it ends in the middle')


def _extend(stack, items):
  if not isinstance(stack[-1], list):
    raise TypeError('items for what is no list')
  stack[-1].extend(items)


def _update(stack, items):
  if not isinstance(stack[-1], dict):
    raise TypeError('entries for what is no dict')
  stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _code(name):
  if name not in _KNOWN:
    raise BadTorchFile(
      f'it names the code {name.replace(" ", "."):.80}, which is no part of weights and was not run'
    )
  return _Code(name)


def _storage(reference):
  """What a persistent id stands for: ('storage', type, key, device, count[, view])."""
  kind, code, key, _, count, *view = reference
  if kind != 'storage' or view not in ([], [None]) or not isinstance(key, str) or count < 0:
    raise ValueError(f'storage {reference!r:.60}')
  return _Storage(key, _STORAGES[code.name], int(count))


def _build(code, arguments):
  """What torch's function of this name makes of its arguments."""
  if code.name == _ORDERED_DICT:
    return dict(*arguments)
  if code.name in _TENSORS:
    storage, offset, shape, strides = arguments[:4]
    return _Tensor(storage, offset, tuple(shape), tuple(strides))
  if code.name in _PARAMETERS:
    return arguments[0]
  raise BadTorchFile(f'it calls {code.name}')


def _state_dict(content, numbers):
  """{name: array} of the tensors in what the pickle built."""
  for name in _WRAPPERS:
    if isinstance(content, dict) and isinstance(content.get(name), dict):
      content = content[name]
      break
  if not isinstance(content, dict):
    raise BadTorchFile('it holds no state dict')
  return {
    str(name): _view(value, numbers[value.storage.key])
    for name, value in content.items()
    if isinstance(value, _Tensor)
  }


def _view(tensor, numbers):
  """The array that a tensor is, a view of its storage's numbers."""
  storage, offset, shape, strides = tensor
  if not all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides)):
    raise ValueError('a tensor of negative size')
  if len(numbers) != storage.count or math.prod(shape) > storage.count:
    raise ValueError('a tensor that is not all in the file')
  if math.prod(shape) and storage.count <= offset + sum(
    (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
  ):
    raise ValueError('a tensor that reaches over its storage')
  if not math.prod(shape):
    return np.zeros(shape, storage.dtype)
  return np.lib.stride_tricks.as_strided(
    numbers[offset:], shape, [stride * numbers.itemsize for stride in strides], writeable=False
  )
