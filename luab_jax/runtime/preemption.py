"""SIGTERM and SIGINT: the step under way is finished and saved, then the process ends.

| what happened | exit status |
|---|---|
| saved; the same command continues | 75 (EX_TEMPFAIL of sysexits.h) |
| a second signal came, or saving took longer than the grace period | 128 + signal |

With several processes SIGTERM is JAX's: its preemption service hears of it on any of them and lets
all agree on the step to stop at. SIGINT then ends a process as it does without us.
"""

import contextlib
import os
import signal
import sys
import threading

import jax

from luab_jax.runtime import hosts

EXIT_SAVED = 75


class Preempted(Exception):
  """The run was told to stop and its state is saved."""

  def __init__(self, step, total_steps):
    super().__init__(f'stopped and saved at step {step} of {total_steps}; the same command goes on')


class StopRequest:
  """Listens for the signals as long as it is entered."""

  def __init__(self, grace_seconds: float):
    """`grace_seconds`: how long the process may take to end by itself."""
    self._grace = grace_seconds
    self._signal: int | None = None
    self._timer: threading.Timer | None = None
    self._several = jax.process_count() > 1

  def __enter__(self):
    self._previous = {}
    if threading.current_thread() is not threading.main_thread():
      return self  # only the main thread may set handlers; somebody else is in charge then
    # Python runs a handler between two of its instructions, and one of them may be a compilation of
    # a minute. The byte that arrives here wakes a thread at once.
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    for number in () if self._several else (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, lambda *_: None)
    threading.Thread(target=self._listen, daemon=True).start()
    return self

  def __exit__(self, *_):
    if self._timer:
      self._timer.cancel()
    if threading.current_thread() is not threading.main_thread():
      return
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._wakeup)
    os.close(self._write)  # ends the thread

  def _listen(self):
    with os.fdopen(self._read, 'rb', buffering=0) as pipe:
      while byte := pipe.read(1):
        number = byte[0]
        if number not in self._previous:
          continue
        if self._signal is not None:
          _end(number, 'a second signal')
        self._signal = number
        self._start_timer(number)

  def _start_timer(self, number):
    timer = threading.Timer(self._grace, _end, [number, f'not saved within {self._grace:g} s'])
    timer.daemon = True
    timer.start()
    self._timer = timer
    _say(
      f'{signal.Signals(number).name}: finishing the step and saving, at most '
      f'{self._grace:g} s; once more to end at once'
    )

  def now(self) -> bool:
    """Whether this process was told to stop; with several processes False, see `at`."""
    return self._signal is not None

  def at(self, step: int) -> bool:
    """Whether the run stops after this step: the same answer on all processes, each step asked."""
    if not self._several:
      return self.now()
    if not hosts.reached_preemption(step):
      return False
    self._start_timer(signal.SIGTERM)
    return True


def _end(number, why):
  _say(f'{signal.Signals(number).name}: {why}; what was saved before stays')
  os._exit(128 + number)


def _say(text):
  with contextlib.suppress(OSError):  # stderr may be a file on a full disk: end all the same
    print(text, file=sys.stderr, flush=True)
