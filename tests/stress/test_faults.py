"""Short form of tests.stress.faults: runs that are stopped or lose their disk.

The loss of a process is tested in tests/train/test_two_processes.py.
"""

import contextlib
import signal
import time

import pytest

from configs import quickstart
from luab_jax.errors import UserError
from luab_jax.train import loop, metric_log
from tests.stress.faults import disk
from tests.stress.faults.runs import NotRun, Run, compare

pytestmark = pytest.mark.slow

_DEVICES = 8  # as conftest.py sets for the tests' own process
_SHORT = {  # the steps of tests/short_run.py, which are compiled once for all tests
  'total_steps': 9,
  'optimizer.warmup_epochs': 0.5,
  'optimizer.ema_decay': 0.9,
  'log_every': 2,
  'checkpoint_every_steps': 2,
  'eval_every_epochs': 9.0,
  'report_images': 0,
  'keep_every_steps': 4,
}


def _run(folder, name, data_dir, **options):
  return Run(folder, name, data_dir, devices=_DEVICES, images=96, **_SHORT, **options)


def _config(run):
  config = quickstart.get_config()
  config.update_from_flattened_dict(run.keys)
  return config


@pytest.fixture(scope='module')
def undisturbed(synthetic_imagenet_ab, tmp_path_factory):
  """An undisturbed run."""
  run = _run(tmp_path_factory.mktemp('run'), 'undisturbed', synthetic_imagenet_ab)
  loop.train_and_evaluate(_config(run), run.workdir)
  return run


def test_a_process_that_is_told_to_stop_says_so_and_its_run_ends_with_the_same_bits(
  undisturbed, synthetic_imagenet_ab, tmp_path
):
  run = _run(tmp_path, 'stopped', synthetic_imagenet_ab)
  start = run.start()
  assert start.wait_until(run.lines), start.output()
  start.process.send_signal(signal.SIGTERM)
  assert start.wait() == 75, start.output()
  start.check_output(lines=1)
  summary = loop.train_and_evaluate(_config(run), run.workdir).summary
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


@pytest.mark.parametrize('fault', [disk.full, disk.moved])
def test_a_fault_of_the_disk_is_one_error_and_without_it_the_run_goes_on(
  undisturbed, synthetic_imagenet_ab, tmp_path, monkeypatch, fault
):
  with contextlib.ExitStack() as mounts, contextlib.ExitStack() as faults:
    folder = tmp_path / 'disk'
    folder.mkdir()
    if fault is disk.full:
      try:
        folder = mounts.enter_context(disk.small_disk(tmp_path))
      except NotRun as reason:
        pytest.skip(str(reason))
    run = _run(tmp_path, 'disk', synthetic_imagenet_ab, workdir=folder / 'run')

    def disturb():
      while run.saved_steps() != [2, 4] or run.saving():
        time.sleep(0.01)
      faults.enter_context(fault(run))

    unsaved = pytest.raises(
      UserError, match='checkpoint could not be saved.*start the same command'
    )
    with _disturbed_at(monkeypatch, 5, disturb), unsaved:
      loop.train_and_evaluate(_config(run), run.workdir)
    faults.close()
    assert run.saved_steps() == [2, 4]
    loop.train_and_evaluate(_config(run), run.workdir)
    compare(run, undisturbed)
