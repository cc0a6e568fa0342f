"""numpy's .npy format, from bytes; nothing in them is unpickled."""

import io
import tokenize

import ml_dtypes
import numpy as np


def parse(data: bytes) -> np.ndarray:
  """Returns the array of an npy file: of bools, integers or floats, read-only, not copied.

  bfloat16, which numpy itself saves as two nameless bytes a value, comes back as bfloat16.

  Raises:
    ValueError: the file is damaged or cut off, or holds something else, such as Python objects.
  """
  try:
    # The header alone, and not np.load: that one takes zip archives and bare pickles for arrays
    # too, and allocates what the header claims.
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, by_columns, dtype = read_header(file)
  except (
    KeyError,
    ValueError,
    TypeError,
    SyntaxError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
  ) as error:
    raise ValueError(f'it is no npy file: {str(error):.100}'.splitlines()[0]) from error
  if dtype == 'V2':
    dtype = np.dtype(ml_dtypes.bfloat16)
  elif dtype.kind not in 'biuf':
    raise ValueError(f'it is {len(shape)}-D of {str(dtype):.40}, expected numbers')
  count = 1
  for length in shape:
    count *= length
  if len(data) - file.tell() != count * dtype.itemsize:
    raise ValueError('it is cut off, or longer than its values')
  array = np.frombuffer(data, dtype, offset=file.tell())
  return array.reshape(shape, order='F' if by_columns else 'C')
