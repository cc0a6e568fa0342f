"""A trace of some training steps for TensorBoard's profiler."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import jax

from luab_jax.errors import UserError


def check_steps(steps: tuple[int, ...]) -> None:
  """Raises UserError unless `steps` is () or (first, last) with 0 < first <= last."""
  if steps and not (len(steps) == 2 and 0 < steps[0] <= steps[1]):
    raise UserError(
      f'profile_steps={tuple(steps)} is not a range of steps: give the first and the last, such as '
      '(100, 105)'
    )


class Profile:
  """Traces the steps first ... last into workdir/tensorboard, where the profiler plug-in looks.

  It waits for the device before and after, so that the trace contains only these steps.
  """

  def __init__(self, workdir: pathlib.Path, steps: tuple[int, ...]):
    self._folder = workdir / 'tensorboard'
    self._first, self._last = steps or (0, 0)
    self._running = False

  def __enter__(self) -> 'Profile':
    return self

  def steps(self, steps: Iterable[int], state: Callable[[], object]) -> Iterator[int]:
    """Yields the same steps; those of the profile are traced, with what follows them in the loop.

    Args:
      steps: numbers of the steps.
      state: returns the newest state, to wait for it.
    """
    for step in steps:
      if step == self._first:
        jax.block_until_ready(state())
        jax.profiler.start_trace(self._folder)
        self._running = True
      yield step
      if self._running and step >= self._last:
        jax.block_until_ready(state())
        self._stop()

  def _stop(self) -> None:
    self._running = False
    jax.profiler.stop_trace()

  def __exit__(
    self,
    error: type[BaseException] | None,
    value: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._running:  # the run was stopped in between
      self._stop()
