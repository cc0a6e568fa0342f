"""The version of the project that is running."""

import contextlib
import functools
import pathlib
import subprocess
from importlib.metadata import PackageNotFoundError, version

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@functools.cache  # as of the first call: the checkout may change during a run
def project_version() -> dict[str, str]:
  """{'luab_jax': version, 'commit': hash} of the running code; each only if it is known.

  The hash ends in -dirty if tracked files differ from it. Without git, or installed outside a
  checkout, there is none.
  """
  found = {}
  with contextlib.suppress(PackageNotFoundError):
    found['luab_jax'] = version('luab_jax')
  if (_ROOT / '.git').exists():  # otherwise git would report the commit of a parent folder
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    with contextlib.suppress(OSError, subprocess.SubprocessError):
      done = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=True, timeout=30
      )
      found['commit'] = done.stdout.strip()
  return found
