"""SIGTERM and SIGINT: the current step is finished and saved, then the process ends.

| what happened | exit status |
|---|---|
| saved; the same command resumes | 75 (EX_TEMPFAIL of sysexits.h) |
| a second signal, or the grace period ended before everything was saved | 128 + signal |

With several processes JAX handles SIGTERM: its preemption service notifies all of them and lets
them agree on the step to stop at. SIGINT then ends a process at once.
"""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

import jax

from luab_jax.runtime import hosts, lock

EXIT_SAVED = 75


class Preempted(Exception):
  """The run was asked to stop and its state is saved."""

  def __init__(self, step: int, total_steps: int):
    super().__init__(f'stopped and saved at step {step} of {total_steps}; the same command resumes')


class StopRequest:
  """A context manager that listens for the signals; enter it in the main thread."""

  def __init__(self, grace_seconds: float):
    """`grace_seconds`: the time in which the process must finish the step and save."""
    self._grace = grace_seconds
    self._signal: int | None = None
    self._timer: threading.Timer | None = None
    self._several = jax.process_count() > 1

  def __enter__(self) -> 'StopRequest':
    # Python runs a handler only between two bytecodes, and a minute of compilation is one bytecode.
    # The byte that the interpreter writes to this pipe wakes a thread at once.
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    numbers = () if self._several else (signal.SIGTERM, signal.SIGINT)
    self._previous = {number: signal.signal(number, _do_nothing) for number in numbers}
    threading.Thread(target=self._listen, daemon=True).start()
    return self

  def __exit__(self, *_: object) -> None:
    if self._timer:
      self._timer.cancel()
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._wakeup)
    os.close(self._write)  # ends the thread

  def _listen(self) -> None:
    with os.fdopen(self._read, 'rb', buffering=0) as pipe:
      while byte := pipe.read(1):
        number = byte[0]
        if number not in self._previous:
          continue
        if self._signal is not None:
          _exit(number, 'a second signal')
        self._signal = number
        self._start_timer(number)

  def _start_timer(self, number: int) -> None:
    self._timer = threading.Timer(
      self._grace, _exit, [number, f'not saved within {self._grace:g} s']
    )
    self._timer.daemon = True
    self._timer.start()
    _print(
      f'{signal.Signals(number).name}: finishing the step and saving, at most '
      f'{self._grace:g} s; send it again to stop at once'
    )

  def now(self) -> bool:
    """Whether this process was asked to stop; always False with several processes, see `at`."""
    return self._signal is not None

  def at(self, step: int) -> bool:
    """Whether the run stops after this step; all processes ask at every step and agree."""
    if not self._several:
      return self.now()
    if not hosts.reached_preemption(step):
      return False
    self._start_timer(signal.SIGTERM)
    return True


def _do_nothing(number: int, frame: FrameType | None) -> None:
  """A handler, so that a signal is written to the wake-up pipe instead of ending the process."""


def _exit(number: int, why: str) -> None:
  _print(f'{signal.Signals(number).name}: {why}; earlier checkpoints are kept')
  lock.release_all()
  os._exit(128 + number)


def _print(text: str) -> None:
  with contextlib.suppress(OSError):  # stderr may be a file on a full disk: exit all the same
    print(text, file=sys.stderr, flush=True)
