"""Compiled steps are kept on disk, so that a run that is started again need not compile anew."""

import contextlib
import glob
import hashlib
import os
import pathlib
import platform
import re
import warnings

import jax

# Compiling a small net takes several pieces of half a second; JAX's default keeps none of them.
_MIN_SECONDS = 0.2
# What JAX warns of; the quotes hold the program's name, with which an entry's file name begins.
_DAMAGED = re.compile(r"Error (?:reading|writing) persistent compilation cache entry for '([^']+)'")


def use_compile_cache():
  """Makes JAX keep what it compiled in ~/.cache/luab_jax/xla; call it before other use of JAX.

  JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=0 turns it off, and
  XDG_CACHE_HOME is obeyed. JAX's key of an entry has the program, its options, the devices and the
  version of jaxlib; of several processes the first one writes, and an entry that cannot be read is
  compiled and written again (in a folder that somebody else has named, compiled at every start: its
  files are not ours to remove). A folder that cannot be made or written is done without.

  Each kind of CPU has its own folder: homes are shared between machines, and code for one CPU may
  end with an illegal instruction, or other bits, on another.
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
    _remove_damaged(folder)


def _remove_damaged(folder):
  """Has entries that a kill or a full disk cut off removed when JAX warns of them.

  JAX never writes an entry that is there: it would warn and compile at every start. Its warning
  has the program's name alone, so intact entries of the same name go too, at the price of
  compiling once more.
  """
  show = warnings.showwarning

  def show_and_remove(message, *args, **kwargs):
    show(message, *args, **kwargs)
    if damaged := _DAMAGED.match(str(message)):
      for path in folder.glob(f'{glob.escape(damaged[1])}-*-cache'):
        with contextlib.suppress(OSError):  # removed by another process, or no longer ours to write
          path.unlink()

  warnings.showwarning = show_and_remove


def cpu_kind() -> str:
  """A name for all CPUs with the same architecture, model and instructions."""
  facts = [platform.machine(), platform.processor()]
  with contextlib.suppress(OSError):  # not Linux
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as file:
      lines = [line for line in file if line.startswith(('model name', 'flags', 'Features'))]
    facts += sorted(set(lines))
  return f'{platform.machine()}-{hashlib.sha256("".join(facts).encode()).hexdigest()[:12]}'
