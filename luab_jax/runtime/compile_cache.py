"""Keeps compiled steps on disk, so that a resumed run does not have to compile them again."""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax

# A small network compiles to several programs of half a second; JAX's default would cache none.
_MIN_SECONDS = 0.2


def use_compile_cache() -> None:
  """Makes JAX cache compiled programs in ~/.cache/luab_jax/xla; call it before other uses of JAX.

  XDG_CACHE_HOME is respected, JAX_COMPILATION_CACHE_DIR names another folder, and
  JAX_ENABLE_COMPILATION_CACHE=0 turns the cache off. Without a writable folder there is no cache.
  JAX itself warns about a damaged entry and recompiles.

  Each kind of CPU has a folder of its own: home directories are shared between machines, and code
  for one CPU may hit an illegal instruction, or compute different bits, on another.
  """
  if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    return
  home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  folder = pathlib.Path(home, 'luab_jax', 'xla', cpu_kind())
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    jax.config.update('jax_compilation_cache_dir', str(folder))
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
      jax.config.update('jax_persistent_cache_min_compile_time_secs', _MIN_SECONDS)


def cpu_kind() -> str:
  """A name shared by all CPUs of the same architecture, model and instruction set."""
  facts = [platform.machine(), platform.processor()]
  with contextlib.suppress(OSError):  # not Linux
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
      lines = [line for line in file if line.startswith(('model name', 'flags', 'Features'))]
    facts += sorted(set(lines))
  return f'{platform.machine()}-{hashlib.sha256("".join(facts).encode()).hexdigest()[:12]}'
