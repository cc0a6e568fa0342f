"""Compiled steps are kept on disk, so that a run that is started again need not compile anew."""

import contextlib
import hashlib
import os
import pathlib
import platform

import jax

# Compiling a small net takes several pieces of half a second; JAX's default keeps none of them.
_MIN_SECONDS = 0.2


def use_compile_cache():
  """Makes JAX keep what it compiled in ~/.cache/luab_jax/xla; call it before other use of JAX.

  JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=0 turns it off, and
  XDG_CACHE_HOME is obeyed. JAX's key of an entry has the program, its options, the devices and the
  version of jaxlib; of several processes the first one writes, and an entry that cannot be read is
  compiled again. A folder that cannot be made or written is done without.

  Each kind of CPU has its own folder: homes are shared between machines, and code for one CPU may
  end with an illegal instruction, or other bits, on another.
  """
  if jax.config.jax_compilation_cache_dir:
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
  """A name for all CPUs with the same architecture, model and instructions."""
  facts = [platform.machine(), platform.processor()]
  with contextlib.suppress(OSError):  # not Linux
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
      lines = [line for line in file if line.startswith(('model name', 'flags', 'Features'))]
    facts += sorted(set(lines))
  return f'{platform.machine()}-{hashlib.sha256("".join(facts).encode()).hexdigest()[:12]}'
