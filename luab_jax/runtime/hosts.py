"""The processes and devices of a run: starting them, communicating, and losing a process.

A host is one process with its local devices; process 0 is the main host.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator

import jax
import numpy as np

from luab_jax import cores
from luab_jax.errors import UserError
from luab_jax.runtime import lock

EXIT_LOST = 69  # EX_UNAVAILABLE of sysexits.h
# A process that sends no heartbeat for this many seconds counts as lost. JAX sends them from a C++
# thread that neither compilation nor Python blocks, so only a hung machine or network goes silent.
HEARTBEAT_SECONDS = 40
_MIN_EXAMPLES = 8  # per device, where a device is a CPU core
# Errors of the runtime when a peer is lost: the status of an unanswered call, or a failed
# connection with any status: "UNKNOWN: Gloo all-reduce failed: … Connection closed by peer".
_LOST_STATUS = re.compile('(UNAVAILABLE|DEADLINE_EXCEEDED): ')
_LOST_PEER = re.compile(
  r'(?!RESOURCE_EXHAUSTED)[A-Z_]{3,}: .*(Gloo [\w -]+ failed|[Cc]onnection (closed|reset|refused)'
  r'|remote process exited|heartbeat|different incarnation|coordination service)',
  re.DOTALL,
)
_SEE = 'see "Machines" in docs/running.md'


def start_hosts() -> None:
  """Joins the other processes of a multi-host run; returns at once in a single-process run.

  The processes are given by JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID or, with JAX_DISTRIBUTED=1, detected by JAX (Slurm, Open MPI, Cloud TPU). Call it
  before any other use of JAX.

  Raises:
    UserError: a variable is missing or malformed, or JAX detects no cluster.
  """
  address = os.environ.get('JAX_COORDINATOR_ADDRESS')
  if address:
    count, index = _process_numbers(address)
    jax.distributed.initialize(
      address, num_processes=count, process_id=index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  elif os.environ.get('JAX_DISTRIBUTED') == '1':
    try:
      jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, TypeError, LookupError) as error:  # raised by JAX's cluster detection
      raise UserError(
        'JAX_DISTRIBUTED=1, but JAX detects no Slurm, Open MPI or Cloud TPU here '
        f'({_one_line(error)}): leave it out for a single process, or set JAX_COORDINATOR_ADDRESS, '
        f'JAX_NUM_PROCESSES and JAX_PROCESS_ID (ids start at 0), {_SEE}'
      ) from error


def _process_numbers(address: str) -> tuple[int, int]:
  """(number of processes, index of this one) from the environment; UserError if they are wrong."""
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
      f'JAX_COORDINATOR_ADDRESS={address} has no port: set host:port, such as '
      f'{address.rstrip(":")}:12345, the same for every process, {_SEE}'
    )
  if not 0 <= index < count:
    raise UserError(
      f'JAX_PROCESS_ID={index} is not below JAX_NUM_PROCESSES={count}: ids start at 0, {_SEE}'
    )
  return count, index


def start_devices() -> None:
  """Initialises JAX's devices; call it after `start_hosts`.

  Raises:
    UserError: JAX_PLATFORMS names a platform that this machine lacks, or the devices do not start.
  """
  try:
    jax.devices()
  except (AssertionError, RuntimeError) as error:  # an assertion if the wheel lacks the platform
    platform = os.environ.get('JAX_PLATFORMS')
    why = _one_line(error) or 'the installed wheel does not support such devices'
    if platform:
      raise UserError(
        f'JAX_PLATFORMS={platform} does not start here ({why:.300}): install the wheel for this '
        f'machine or unset JAX_PLATFORMS, {_SEE}'
      ) from error
    raise UserError(
      f'JAX cannot start any device ({why:.300}): install the wheel for this machine, {_SEE}'
    ) from error


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split())


def use_cpu_cores(batch_size: int, grad_accum_steps: int = 1) -> None:
  """Makes CPU cores devices, as many as divide the batch; call it before other uses of JAX.

  XLA parallelises a step of a small network poorly over cores: two devices with one core each took
  73 ms, one device with two cores 121 ms (quickstart, 2 cores). Has no effect if JAX finds
  accelerators, or if JAX_NUM_CPU_DEVICES or XLA_FLAGS sets the number of devices.
  """
  if 'JAX_NUM_CPU_DEVICES' in os.environ or 'device_count' in os.environ.get('XLA_FLAGS', ''):
    return
  micro_batch = max(batch_size // max(grad_accum_steps, 1), 1)
  # A device needs a few examples for its BatchNorm and to be worth its overhead.
  limit = max(min(cores(), micro_batch // _MIN_EXAMPLES), 1)
  devices = max(n for n in range(1, limit + 1) if micro_batch % n == 0)
  jax.config.update('jax_num_cpu_devices', devices)


def is_main_host() -> bool:
  """True on the one process that writes logs, summaries and images."""
  return jax.process_index() == 0


def agree(flag: bool) -> bool:
  """Returns the main host's flag on every host."""
  if jax.process_count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def sum_over_hosts(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Sums {name: int array} over all processes, which must all have the same names and shapes."""
  return {name: values.sum(0) for name, values in _gather(counts).items()}


def concatenate_over_hosts(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Concatenates {name: array [N, ...]} of all processes in process order; N may differ.

  All must have the same names and dtypes; strings (np.bytes_) may differ in length.
  """
  if jax.process_count() == 1:
    return columns
  sizes = _gather({name: np.array([len(c), c.itemsize]) for name, c in columns.items()})
  padded = {}
  for name, column in columns.items():
    rows, width = sizes[name].max(0)
    column = column.astype(f'{column.dtype.kind}{width}')
    padded[name] = np.concatenate(
      [column, np.zeros((rows - len(column), *column.shape[1:]), column.dtype)]
    )
  return {
    name: np.concatenate([part[:rows] for part, (rows, _) in zip(parts, sizes[name], strict=True)])
    for name, parts in _gather(padded).items()
  }


def _gather(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """{name: [processes, ...]} of all processes, which have the same names, shapes and dtypes."""
  if jax.process_count() == 1:
    return {name: array[np.newaxis] for name, array in arrays.items()}
  from jax.experimental import multihost_utils

  # As bytes: JAX has no strings and, by default, no 64-bit types.
  raw = {name: np.frombuffer(array.tobytes(), np.uint8) for name, array in arrays.items()}
  gathered = multihost_utils.process_allgather(raw)
  return {
    name: np.ascontiguousarray(gathered[name]).view(array.dtype).reshape(-1, *array.shape)
    for name, array in arrays.items()
  }


def reached_preemption(step: int) -> bool:
  """Whether all processes stop after `step`: JAX shares a SIGTERM received by any of them."""
  from jax.experimental import multihost_utils

  return multihost_utils.reached_preemption_sync_point(step)


def is_process_loss(error: BaseException) -> bool:
  """Whether an error in a multi-process run means that another process was lost."""
  is_runtime_error, text = isinstance(error, jax.errors.JaxRuntimeError), str(error)
  if is_runtime_error and _LOST_STATUS.match(text):
    return True
  # jax.device_get re-raises a failed collective as a ValueError with the runtime's message.
  return (is_runtime_error or isinstance(error, ValueError)) and bool(_LOST_PEER.match(text))


@contextlib.contextmanager
def exit_on_process_loss() -> Iterator[None]:
  """Exits with EXIT_LOST and a message if the code inside fails because a process was lost.

  The other processes hang in the same collective, so waiting for them at exit would hang too. Where
  collectives hang instead of failing (accelerators), JAX itself ends the process after
  HEARTBEAT_SECONDS, or at once if process 0 is lost, and names the lost process.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() == 1 or not is_process_loss(error):
      raise
    print(
      f'run.py: another process was lost ({_one_line(error):.200}); finding out which takes up to '
      f'{HEARTBEAT_SECONDS} s. Start all of them again: they resume from the newest checkpoint',
      file=sys.stderr,
      flush=True,
    )
    print(f'run.py: {_lost_process()}', file=sys.stderr, flush=True)
    lock.release_all()
    os._exit(EXIT_LOST)


def _lost_process() -> str:
  from orbax.checkpoint import multihost

  try:
    # With a process missing nobody passes this barrier; its error names the missing one.
    multihost.get_barrier_sync_fn()(key='lost', timeout_ms=1000 * (HEARTBEAT_SECONDS + 15))
  except jax.errors.JaxRuntimeError as error:
    found = re.search(r'[Tt]ask (\d+) heartbeat|heartbeats\):\s*(\d+)', str(error))
    if found:
      return f'it is process {found[1] or found[2]} of {jax.process_count()}'
    return _one_line(error)[:300]
  return 'all processes still answer: the network between them failed'


def exit_now(status: int, message: str) -> None:
  """Ends a process of a multi-host run without waiting for the others, which would hang.

  Does nothing in a single-process run.
  """
  if jax.process_count() > 1:
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    lock.release_all()
    os._exit(status)
