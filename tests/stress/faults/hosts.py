"""Cases with two processes that train together: one is killed or gets SIGTERM."""

import os
import signal
import socket
import time

from tests.stress.faults.runs import Violation, compare

_ENDS = 60  # seconds within which the remaining process has to end


def start_both(run):
  """Starts both processes of a run, with one device each."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  return [
    run.start(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES='2', JAX_PROCESS_ID=str(index))
    for index in range(2)
  ]


def finish_both(run):
  """Starts both, waits until they end successfully, and returns the starts."""
  starts = start_both(run)
  for index, start in enumerate(starts):
    if status := start.wait():
      raise Violation(f'process {index}: exit status {status}: {start.last_line()}')
    start.check_output()
  return starts


def undisturbed(bench):
  """An undisturbed run of two processes; trained on first use."""
  run = bench.run('undisturbed_two')
  if not (run.workdir / 'summary.json').exists():
    finish_both(run)
  return run


def one_is_killed(bench, victim):
  """The other process ends soon and names the lost one; both, restarted, end with the same bits."""
  expected = undisturbed(bench)
  run = bench.run(f'two_{victim}_killed')
  starts = start_both(run)
  if not starts[0].wait_until(lambda: len(run.saved_steps()) > 1):
    raise Violation(f'process 0 ended by itself: {starts[0].last_line()}')
  starts[victim].kill()
  began, other = time.monotonic(), starts[1 - victim]
  status = other.wait(_ENDS)
  seconds, output = time.monotonic() - began, other.output()
  if status not in (69, 134):
    raise Violation(f'status {status}: {other.last_line()}')
  named = 'it is process 1 of 2' if victim else 'Either the leader task'
  if named not in output:
    raise Violation(f'the other process does not say which was lost: {other.last_line()}')
  if victim:
    other.check_output()
  again = finish_both(run)
  compare(run, expected)
  return (
    f'the other ended after {seconds:.0f} s, status {status}, "{named}"; both, restarted, '
    f'continued at step {again[0].first_step()}: same bits'
  )


def one_gets_sigterm(bench, _):
  """SIGTERM to one of two: both save the same step and end; restarted, same bits."""
  expected = undisturbed(bench)
  run = bench.run('two_sigterm')
  starts = start_both(run)
  if not starts[0].wait_until(lambda: len(run.saved_steps()) > 1):
    raise Violation(f'process 0 ended by itself: {starts[0].last_line()}')
  os.kill(starts[1].process.pid, signal.SIGTERM)
  statuses = [start.wait(_ENDS) for start in starts]
  if statuses != [75, 75]:
    raise Violation(f'statuses {statuses}: {starts[0].last_line()} / {starts[1].last_line()}')
  last = [start.last_line() for start in starts]
  if last[0] != last[1] or 'stopped and saved at step' not in last[0]:
    raise Violation(f'the two disagree: {last}')
  again = finish_both(run)
  if f'at step {again[0].first_step()} of' not in last[0]:
    raise Violation(f'continued at step {again[0].first_step()}, but: {last[0]}')
  compare(run, expected)
  return f'both: status 75, saved step {again[0].first_step()}; restarted: same bits'


CASES = {
  'two processes, 1 is killed': lambda bench, _: one_is_killed(bench, 1),
  'two processes, 0 is killed': lambda bench, _: one_is_killed(bench, 0),
  'two processes, SIGTERM to 1': one_gets_sigterm,
}
