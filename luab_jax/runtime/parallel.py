"""Devices and hosts: the only file that knows about `jax.pmap`.

A step is written as a per-device SPMD function that reduces over the named axis `AXIS`; this
file maps it over the devices, replicates the state and shards the batches. Moving to
`jax.shard_map` would change nothing outside of it.
"""

import collections
import contextlib
import os
import re
import sys

import jax
import numpy as np

from luab_jax import cores
from luab_jax.errors import UserError

AXIS = 'batch'
EXIT_LOST = 69  # EX_UNAVAILABLE of sysexits.h
# A process is lost after so many seconds without a sign of life. JAX sends one every half of it,
# from a C++ thread that neither compilation nor Python holds up: only a machine or a network that
# stands still for that long is taken for dead.
HEARTBEAT_SECONDS = 40
_LEAST_EXAMPLES = 8  # on a device that is a CPU core
_SEE = 'see "Machines" in docs/running.md'


def start_hosts():
  """Joins the other processes of a multi-host run; a single process returns at once.

  A process is told of the others by JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, or, with JAX_DISTRIBUTED=1, by what JAX detects by itself (Slurm, Open MPI,
  Cloud TPU). Call it before any other use of JAX.

  Raises:
    UserError: a variable is missing or malformed, or JAX detects no other processes.
  """
  address = os.environ.get('JAX_COORDINATOR_ADDRESS')
  if address:
    count, index = _counted_processes(address)
    jax.distributed.initialize(
      address, num_processes=count, process_id=index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  elif os.environ.get('JAX_DISTRIBUTED') == '1':
    try:
      jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, TypeError, LookupError) as error:  # of its detection
      raise UserError(
        'JAX_DISTRIBUTED=1, but JAX detects no Slurm, Open MPI or Cloud TPU here '
        f'({_one_line(error)}): leave it out for a single process, or set JAX_COORDINATOR_ADDRESS, '
        f'JAX_NUM_PROCESSES and JAX_PROCESS_ID (ids start at 0), {_SEE}'
      ) from error


def _counted_processes(address):
  """(number of processes, index of this one) from the environment, as far as it makes sense."""
  try:
    count = int(os.environ['JAX_NUM_PROCESSES'])
    index = int(os.environ['JAX_PROCESS_ID'])
  except (KeyError, ValueError) as error:
    raise UserError(
      'JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be '
      f'integers too ({error}); ids start at 0, {_SEE}'
    ) from error
  if not re.search(r':[0-9]+$', address):
    raise UserError(
      f'JAX_COORDINATOR_ADDRESS={address} has no port: give host:port, such as '
      f'{address.rstrip(":")}:12345, the same for each process, {_SEE}'
    )
  if count < 1:
    raise UserError(f'JAX_NUM_PROCESSES={count} must be at least 1, {_SEE}')
  if not 0 <= index < count:
    raise UserError(
      f'JAX_PROCESS_ID={index} is not from 0 to {count - 1}, as '
      f'JAX_NUM_PROCESSES={count} asks for: ids start at 0, {_SEE}'
    )
  return count, index


def start_devices():
  """Starts JAX's devices; call it after `start_hosts`.

  Raises:
    UserError: there are none of the kind that JAX_PLATFORMS names, or they do not start.
  """
  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:  # an assertion where the wheel knows of no such
    asked = os.environ.get('JAX_PLATFORMS')
    why = _one_line(error) or 'the wheel that is installed knows no such device'
    raise UserError(
      (f'JAX_PLATFORMS={asked} does not start here' if asked else 'JAX finds no device that starts')
      + f' ({why:.300}): install the wheel of this machine'
      + (' or leave JAX_PLATFORMS out' if asked else '')
      + f', {_SEE}'
    ) from error


def _one_line(error):
  return ' '.join(str(error).split())


def use_cpu_cores(batch_size: int, grad_accum_steps: int = 1):
  """Makes every CPU core a device, as far as the batch divides; call it before other use of JAX.

  XLA spreads the step of a small net over the cores badly: two devices of one core each took 73 ms
  where one device of two cores took 121 (quickstart, 2 cores). Accelerators, where there are any,
  come first and are not affected. A number in JAX_NUM_CPU_DEVICES or XLA_FLAGS is left as it is.
  """
  if 'JAX_NUM_CPU_DEVICES' in os.environ or 'device_count' in os.environ.get('XLA_FLAGS', ''):
    return
  part = max(batch_size // max(grad_accum_steps, 1), 1)
  # A device needs a few examples for its BatchNorm and to be worth its overhead.
  most = max(min(cores(), part // _LEAST_EXAMPLES), 1)
  devices = max(n for n in range(1, most + 1) if part % n == 0)
  jax.config.update('jax_num_cpu_devices', devices)


def is_main_host() -> bool:
  """True on the one process that writes logs, summaries and pictures."""
  return jax.process_index() == 0


def is_process_loss(error: BaseException) -> bool:
  """Whether an error of a run of several processes is one of the runtime that joins them."""
  # jax.device_get passes on a failed collective as a ValueError with the runtime's text.
  return isinstance(error, jax.errors.JaxRuntimeError) or (
    isinstance(error, ValueError) and bool(re.match(r'[A-Z_]{3,}: ', str(error)))
  )


@contextlib.contextmanager
def process_loss():
  """Ends this process, with a line that says why, if what is done inside fails as another is lost.

  The other processes hang in the same operation, and waiting for them at exit would hang, too.
  Where operations hang instead of failing (accelerators), JAX itself ends the process after
  HEARTBEAT_SECONDS, and so it does at once if process 0 is lost; its message names the process.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1 or not is_process_loss(error):
      raise
    why = ' '.join(str(error).split())[:200]
    print(
      f'run.py: another process was lost ({why}); within {HEARTBEAT_SECONDS} s it is known '
      'which. Start all of them again: they go on from the newest checkpoint',
      file=sys.stderr,
    )
    sys.stderr.flush()
    print(f'run.py: {_lost_process()}', file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_LOST)


def _lost_process():
  from orbax.checkpoint import multihost

  try:
    # No process gets past it, as one is missing: what it raises in the end names that one.
    multihost.get_barrier_sync_fn()(key='lost', timeout_ms=1000 * (HEARTBEAT_SECONDS + 15))
  except jax.errors.JaxRuntimeError as error:
    found = re.search(r'[Tt]ask (\d+) heartbeat|heartbeats\):\s*(\d+)', str(error))
    if found:
      return f'it is process {found[1] or found[2]} of {jax.process_count()}'
    return ' '.join(str(error).split())[:300]
  return 'all processes still answer: the network between them failed'


def leave(status: int, message: str):
  """Ends one of several processes at once: at exit JAX would wait for the others, which hang."""
  if jax.process_count() > 1:
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def reached_preemption(step: int) -> bool:
  """Whether all processes stop after `step`: JAX tells all of them of SIGTERM to one."""
  from jax.experimental import multihost_utils

  return multihost_utils.reached_preemption_sync_point(step)


def agree(flag: bool) -> bool:
  """The main host's answer on all hosts."""
  if jax.process_count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def check_batch_size(batch_size: int, grad_accum_steps: int = 1):
  """Raises UserError unless the global batch divides evenly over devices and micro-batches."""
  parts = jax.device_count() * grad_accum_steps
  if batch_size % parts:
    raise UserError(
      f'batch_size={batch_size} does not divide by {jax.device_count()} devices'
      + (f' x {grad_accum_steps} gradient accumulation steps' if grad_accum_steps > 1 else '')
      + f'; try --config.batch_size={-(-batch_size // parts) * parts}'
    )


def pmap_step(step, donate_state: bool = False):
  """Maps a per-device `step(state, batch)` over all devices with the axis name `AXIS`.

  Args:
    step: function of one device's state and batch; reduces over `AXIS` what has to be global.
    donate_state: reuse the memory of the first argument for the result.
  Returns:
    A function of a replicated state and a sharded batch ([local devices, …] leaves).
  """
  return jax.pmap(step, axis_name=AXIS, donate_argnums=(0,) if donate_state else ())


def _sharding():
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def replicate(tree):
  """Copies every leaf to all local devices: shape [...] becomes [local devices, ...]."""
  devices = jax.local_device_count()
  sharding = _sharding()

  def copy(leaf):
    leaf = np.asarray(leaf)
    return jax.device_put(np.broadcast_to(leaf[None], (devices, *leaf.shape)), sharding)

  return jax.tree.map(copy, tree)


def fetch(tree):
  """Host copies (numpy) of a replicated tree, taken from the first local device."""
  # Views of the first device's buffer, all requested at once; indexing the sharded array instead
  # would start one gather a leaf.
  local = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
  # A copy, because on CPU the view shares memory with a buffer that the next step donates.
  return jax.tree.map(lambda leaf: np.array(leaf[0]), local)


def fetch_examples(tree):
  """Host copies of this host's examples: leaves [local devices, B / devices, ...] become [B, ...].

  In the order of the batch that `shard` put there. Waits for the devices.
  """

  def rows(leaf):
    parts = {part.device: part.data for part in leaf.addressable_shards}
    return np.concatenate([np.asarray(parts[device])[0] for device in jax.local_devices()])

  return jax.tree.map(rows, tree)


def sum_over_hosts(counts: dict) -> dict:
  """Sums {name: int array} over all processes, each of which must have the same names.

  The sums must stay below 2**31: they travel as int32.
  """
  if jax.process_count() == 1:
    return counts
  from jax.experimental import multihost_utils

  parts = multihost_utils.process_allgather(
    {name: np.asarray(count, np.int32) for name, count in counts.items()}
  )
  return {name: np.asarray(part, np.int64).sum(0) for name, part in parts.items()}


def shard(batch, sharding=None):
  """Puts a host's batch onto its devices: [B, ...] becomes [local devices, B / devices, ...]."""
  devices = jax.local_device_count()
  sharding = sharding or _sharding()
  return jax.tree.map(
    lambda x: jax.device_put(x.reshape((devices, x.shape[0] // devices) + x.shape[1:]), sharding),
    batch,
  )


def stack_batches(batches):
  """Sharded batches as one: N times [local devices, b, ...] becomes [local devices, N, b, ...]."""
  return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves, axis=1), *batches)


def prefetch(batches, size: int = 2):
  """Yields sharded batches, keeping `size` of them on their way to the devices.

  Args:
    batches: iterator of dicts of numpy arrays [B, ...].
    size: how many batches are transferred ahead; `device_put` returns at once, so the copy of
      the next batch overlaps with the step on the current one.
  """
  sharding = _sharding()
  queue: collections.deque = collections.deque()
  for batch in batches:
    queue.append(shard(batch, sharding))
    if len(queue) > size:
      yield queue.popleft()
  while queue:
    yield queue.popleft()
