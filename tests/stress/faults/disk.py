"""Cases with a full or read-only disk, or a folder that disappears."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from tests.stress.faults.runs import NotRun, Violation, compare

_ENDS = 60  # seconds a run may take to notice and end


def _mount(*arguments):
  if os.geteuid():
    raise NotRun('only root may mount a file system')
  done = subprocess.run(['mount', *map(str, arguments)], capture_output=True, text=True)
  if done.returncode:
    raise NotRun(done.stderr.strip())


def _unmount(folder):
  subprocess.run(['umount', '-l', folder], check=True)


@contextlib.contextmanager
def small_disk(folder):
  """A folder with room for 24 MiB."""
  disk = pathlib.Path(tempfile.mkdtemp(prefix='disk_', dir=folder))
  _mount('-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk)
  try:
    yield disk
  finally:
    _unmount(disk)


@contextlib.contextmanager
def full(run):
  """Fills the disk of a run's folder to the last byte."""
  ballast = run.workdir.parent / 'ballast'
  with ballast.open('wb', buffering=0) as file:
    for size in (1 << 20, 4096):  # large blocks first: the run must not end meanwhile
      with contextlib.suppress(OSError):
        while True:
          file.write(bytes(size))
  yield
  ballast.unlink()


@contextlib.contextmanager
def read_only(run):
  """Nothing in a run's folder can be opened for writing; open files stay writable."""
  _mount('--bind', run.workdir, run.workdir)
  try:
    _mount('-o', 'remount,ro,bind', run.workdir)
    yield
  finally:
    _unmount(run.workdir)


@contextlib.contextmanager
def moved(run):
  """Renames a run's folder for a while."""
  elsewhere = run.workdir.with_name('elsewhere')
  run.workdir.rename(elsewhere)
  yield
  if (run.workdir / 'metrics.jsonl').exists() or len(run.saved_steps()) > 1:
    raise Violation(f'{run.workdir} was created again, and the run continued in it')
  shutil.rmtree(run.workdir, ignore_errors=True)  # the save in progress may have recreated it
  elsewhere.rename(run.workdir)


@contextlib.contextmanager
def removed(run):
  """Deletes a run's folder for good, as somebody freeing disk space might."""
  doomed = run.workdir.with_name('doomed')
  run.workdir.rename(doomed)  # otherwise files that are being written may be left behind
  shutil.rmtree(doomed)
  yield
  shutil.rmtree(run.workdir, ignore_errors=True)


def _trained(start):
  return len(start.run.saved_steps()) > 1


def _saving(start):
  return _trained(start) and start.run.saving()


def _last_evaluation(start):
  run, lines = start.run, start.run.lines()
  return (
    run.steps in run.saved_steps() and not run.saving() and lines and lines[-1]['step'] == run.steps
  )


def ends(bench, fault, when):
  """The fault ends the run with a one-line error; restarted without it, same bits.

  Args:
    bench: Bench.
    fault: context manager of a run, such as `full`.
    when: function of the Start, true at the moment of the fault.
  """
  undisturbed, _ = bench.undisturbed()
  with small_disk(bench.folder) as disk:
    run = bench.run(disk.name, workdir=disk / 'run')
    start = run.start()
    if not start.wait_until(lambda: when(start)):
      raise Violation(f'it ended by itself: {start.last_line()}')
    newest = run.saved_steps()[-1]
    with fault(run):
      status = start.wait(_ENDS)
      start.check_output()
      if not status and when is _last_evaluation:  # deleting older checkpoints made room
        compare(run, undisturbed)
        return 'made room for its last files itself: same bits'
      if status != 2:
        raise Violation(f'status {status}: {start.last_line()}')
      start.check_output(lines=1)
    again = run.finish()
    least = 0 if fault is removed else newest
    if again.first_step() < least:
      raise Violation(f'continued at step {again.first_step()}, though {newest} had been saved')
    compare(run, undisturbed)
    return f'"{_shown(start)}"; continued at step {again.first_step()}: same bits'


def refuses(bench, fault, *, begun):
  """With the fault the command ends at once with a one-line error; without it, it works.

  Args:
    bench: Bench.
    fault: context manager of a run, such as `full`.
    begun: whether the run has trained before.
  """
  undisturbed, _ = bench.undisturbed()
  with small_disk(bench.folder) as disk:
    run = bench.run(disk.name, workdir=disk / 'run')
    run.workdir.mkdir()
    if begun:
      start = run.start()
      start.wait_until(lambda: _trained(start))
      start.kill()
    with fault(run):
      start = run.start()
      status = start.wait(_ENDS)
      start.check_output()
      if status != 2:
        raise Violation(f'status {status}: {start.last_line()}')
      start.check_output(lines=1)
    run.finish()
    compare(run, undisturbed)
    return f'"{_shown(start)}"; then: same bits'


def log_alone(bench, _, *, killed):
  """For a while only checkpoints can be written: training continues, and no line is lost."""
  undisturbed, _ = bench.undisturbed()
  with small_disk(bench.folder) as disk:
    run = bench.run(disk.name, workdir=disk / 'run')
    store, here = bench.folder / f'{disk.name}_store', run.workdir / 'checkpoints'
    store.mkdir()
    here.mkdir(parents=True)
    _mount('--bind', store, here)
    try:
      start = run.start()
      with contextlib.ExitStack() as stack:
        start.wait_until(lambda: _trained(start))
        stack.enter_context(full(run))
        count = run.saved_steps()[-1]
        going_on = start.wait_until(lambda: (run.saved_steps() or [0])[-1] > count + 14)
        if not going_on or 'training continues' not in start.output():
          raise Violation(f'training did not continue: {start.last_line()}')
        if killed:
          start.kill()
      if killed:
        run.finish()
      elif start.wait():
        raise Violation(f'it failed at its end: {start.last_line()}')
      start.check_output()
      compare(run, undisturbed)
    finally:
      _unmount(here)
  return 'training continued, ' + ('was killed and resumed: ' if killed else '') + 'same bits'


def _shown(start):
  line = next(line for line in start.output().splitlines() if line.startswith('run.py: '))
  return line.replace('|', '/').replace(str(start.run.workdir), 'WORKDIR')


CASES = {
  'disk full between saves': lambda bench, _: ends(bench, full, _trained),
  'disk full in a save': lambda bench, _: ends(bench, full, _saving),
  'disk full in the last evaluation': lambda bench, _: ends(bench, full, _last_evaluation),
  'disk full at the first start': lambda bench, _: refuses(bench, full, begun=False),
  'disk full at a later start': lambda bench, _: refuses(bench, full, begun=True),
  'disk full for the log alone': lambda bench, o: log_alone(bench, o, killed=False),
  'disk full for the log alone, then killed': lambda bench, o: log_alone(bench, o, killed=True),
  'disk read-only': lambda bench, _: ends(bench, read_only, _trained),
  'disk read-only in the last evaluation': (
    lambda bench, _: ends(bench, read_only, _last_evaluation)
  ),
  'disk read-only at the first start': lambda bench, _: refuses(bench, read_only, begun=False),
  'disk read-only at a later start': lambda bench, _: refuses(bench, read_only, begun=True),
  'folder moved away': lambda bench, _: ends(bench, moved, _trained),
  'folder moved away in a save': lambda bench, _: ends(bench, moved, _saving),
  'folder removed': lambda bench, _: ends(bench, removed, _trained),
}
