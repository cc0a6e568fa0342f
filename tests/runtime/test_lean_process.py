"""Processes that read data are kept small, without a change for anyone else in them."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def _run(code, **environment):
  """Runs code in a new process and returns what it prints as JSON."""
  kept = {name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')}
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env={**kept, **environment},
    check=True,
    capture_output=True,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def test_tensorflow_comes_without_jax_which_can_be_imported_later():
  code = """
import json, sys
from luab_jax.runtime import lean_process
lean_process.import_tensorflow()
names = [name for name in ('tensorflow', 'jax', 'keras', 'tf_keras') if name in sys.modules]
import jax
import jax.numpy as jnp
import tensorflow as tf
print(json.dumps([names, float(jnp.sum(jnp.ones(3))), int(tf.reduce_sum([1, 2]))]))
"""
  assert _run(code) == [['tensorflow'], 3.0, 3]


def test_jax_that_is_there_stays():
  assert _run("""
import json, jax, sys
from luab_jax.runtime import lean_process
lean_process.import_tensorflow()
print(json.dumps(sys.modules['jax'] is jax))
""")


# Frees, in a thread, 64 blocks of 5 MiB; by default glibc keeps such blocks after the first one.
FREED = """
import json, threading
import numpy as np
from luab_jax.runtime import lean_process
if BOUND:
  lean_process.bound_malloc()
def resident():
  line = [line for line in open('/proc/self/status') if line.startswith('RssAnon')][0]
  return int(line.split()[1]) / 1024
def work():
  for _ in range(3):
    blocks, small = [], []
    for _ in range(64):
      blocks.append(np.ones(5 << 20, np.uint8))
      small.append(np.ones(70_000, np.uint8))  # above it, so that it cannot be cut off
    del blocks
    held.append(small)
held = []
before = resident()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(resident() - before))
"""


def test_large_blocks_go_back_to_the_system():
  kept = 3 * 64 * 70_000 / 2**20
  assert _run(f'BOUND = False{FREED}') > kept + 100  # or nothing would be shown
  assert _run(f'BOUND = True{FREED}') < kept + 40
  # A user's own choice stays.
  assert _run(f'BOUND = True{FREED}', MALLOC_MMAP_THRESHOLD_='33554432') > kept + 100
