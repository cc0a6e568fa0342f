"""Short form of tests.stress.faults: runs that are stopped or lose their disk.

The loss of a process is tested in tests/train/test_two_processes.py.
"""

import contextlib
import signal
import sys
import time

import pytest

from luab_jax.errors import UserError
from luab_jax.train import loop, metric_log
from tests.short_run import short_config
from tests.stress.faults import disk
from tests.stress.faults.runs import NotRun, Run, compare

pytestmark = pytest.mark.slow

_DEVICES = 8  # as conftest.py sets for the tests' own process


def _run(folder, name, data_dir, **options):
  """A Run of tests/short_run.py, whose compiled steps all tests share."""
  run = Run(folder, name, data_dir, devices=_DEVICES, **options)
  config = f'--config=tests/short_run.py:{data_dir}'
  run.command = [sys.executable, 'run.py', config, f'--workdir={run.workdir}']
  return run


@pytest.fixture
def undisturbed(synthetic_imagenet_ab, undisturbed_run, tmp_path):
  """An undisturbed run."""
  return _run(tmp_path, 'undisturbed', synthetic_imagenet_ab, workdir=undisturbed_run)


def test_a_process_that_is_told_to_stop_says_so_and_its_run_ends_with_the_same_bits(
  undisturbed, synthetic_imagenet_ab, tmp_path
):
  run = _run(tmp_path, 'stopped', synthetic_imagenet_ab)
  start = run.start()
  assert start.wait_until(run.lines), start.output()
  start.process.send_signal(signal.SIGTERM)
  assert start.wait() == 75, start.output()
  start.check_output(lines=1)
  summary = loop.train_and_evaluate(short_config(synthetic_imagenet_ab), run.workdir).summary
  step = 9 - summary['steps_in_this_start']
  assert f'stopped and saved at step {step} of 9' in start.last_line()
  compare(run, undisturbed)


@contextlib.contextmanager
def _disturbed_at(monkeypatch, step, disturb):
  """Calls `disturb()` after a given step of a run in this process."""
  add = metric_log.RunLog.add

  def disturbed_add(self, number, metrics):
    add(self, number, metrics)
    if number == step:
      disturb()

  with monkeypatch.context() as patch:
    patch.setattr(metric_log.RunLog, 'add', disturbed_add)
    yield


def test_a_fault_of_the_disk_is_one_error_and_without_it_the_run_goes_on(
  undisturbed, synthetic_imagenet_ab, tmp_path, monkeypatch
):
  config = short_config(synthetic_imagenet_ab)
  with contextlib.ExitStack() as mounts:
    folder, happening, left_out = tmp_path, [disk.moved], None
    try:
      folder = mounts.enter_context(disk.small_disk(tmp_path))
      happening.insert(0, disk.full)
    except NotRun as reason:
      left_out = f'the full disk: {reason}'
    run = _run(tmp_path, 'disk', synthetic_imagenet_ab, workdir=folder / 'run')
    for fault in happening:
      with contextlib.ExitStack() as faults:

        def disturb(fault=fault, faults=faults):
          while run.saved_steps() != [5] or run.saving():
            time.sleep(0.01)
          faults.enter_context(fault(run))

        unsaved = pytest.raises(
          UserError, match='checkpoint could not be saved.*start the same command'
        )
        with _disturbed_at(monkeypatch, 7, disturb), unsaved:
          loop.train_and_evaluate(config, run.workdir)
      assert run.saved_steps() == [5]
    loop.train_and_evaluate(config, run.workdir)
    compare(run, undisturbed)
  if left_out:
    pytest.skip(left_out)
