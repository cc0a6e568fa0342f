"""Keeps a process that reads data small; both to be called before TensorFlow is imported."""

import ctypes
import os
import sys

from luab_jax import WITHOUT_KERAS

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_MIB = 1 << 20


def bound_malloc() -> None:
  """Makes glibc's malloc give back what the input pipeline has freed; does nothing elsewhere.

  A batch goes back to the system as soon as it is freed; glibc would soon keep blocks of up to 32
  MiB in pieces. And threads share as many arenas as there are cores, not eight times as many. 130
  MiB less at batches of 128 on two cores, at the same speed (benchmarks/NOTES.md). A variable
  `MALLOC_…_` of the user's stays in force.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (OSError, AttributeError):
    return  # another C library
  if any(name.startswith('MALLOC_') for name in os.environ):
    return
  mallopt(_MMAP_THRESHOLD, 4 * _MIB)
  mallopt(_TRIM_THRESHOLD, 8 * _MIB)
  mallopt(_ARENA_MAX, os.cpu_count() or 1)


def import_tensorflow() -> None:
  """Imports TensorFlow without Keras and JAX, for programs that need neither.

  It imports JAX where that is installed, for a converter of TFLite: 110 MiB and half a second. JAX
  can be imported later, as usual.
  """
  os.environ.setdefault(*WITHOUT_KERAS)
  absent = 'jax' not in sys.modules
  if absent:
    sys.modules['jax'] = None  # type: ignore[assignment]  # an ImportError, which it expects
  try:
    import tensorflow  # noqa: F401
  finally:
    if absent:
      del sys.modules['jax']
