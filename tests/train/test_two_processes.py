"""Two processes train as one, and a process that loses the other ends with a message."""

import re
import sys

import numpy as np
import pytest

from luab_jax.train import loop, metrics_file
from tests.short_run import short_config
from tests.stress.faults import hosts
from tests.stress.faults.runs import Run

pytestmark = pytest.mark.slow


def get_config(data_dir):
  """One epoch of the short run; this file is also the config file of both processes."""
  config = short_config(data_dir)
  config.num_epochs, config.report_images = 1.0, 1
  config.data.max_per_worker = 10
  config.data.eval_splits = {'clicks': 'train[:30%]'}  # 29 images: one process has one more
  return config


@pytest.fixture(scope='module')
def start_both(synthetic_imagenet_ab, tmp_path_factory):
  """Starts a run of two processes and waits; returns (workdir, both Starts, exit statuses)."""
  folder = tmp_path_factory.mktemp('two')

  def start(name, *program):
    run = Run(folder, name, synthetic_imagenet_ab)
    config = f'--config=tests/train/test_two_processes.py:{synthetic_imagenet_ab}'
    run.command = [sys.executable, *program, config, f'--workdir={run.workdir}']
    starts = hosts.start_both(run)
    try:
      statuses = [one.wait() for one in starts]
    finally:
      for one in starts:
        one.kill()
    return run.workdir, starts, statuses

  return start


def test_two_processes_train_as_one(start_both, synthetic_imagenet_ab, tmp_path, monkeypatch):
  # A donated state with another sharding than pmap's would be copied, doubling its memory.
  monkeypatch.setenv('PYTHONWARNINGS', 'error:Donated pmap argument required resharding')
  loop.train_and_evaluate(get_config(synthetic_imagenet_ab), tmp_path)
  two, starts, statuses = start_both('both', 'run.py')
  outputs = [start.output() for start in starts]
  assert statuses == [0, 0], outputs
  assert '2 process(es)' in outputs[0]
  assert re.search(r'byproducts of train: \d+ of .* by data.max_per_worker=10\)', outputs[0])
  assert 'summary.json' in outputs[0]
  assert f'Open {two}/report.html' in outputs[0] and (two / 'report.html').exists()
  for name in ('summary.json', 'report.html'):
    assert name not in outputs[1]  # only the first process reports
  left, right = (
    {(line['step'], line['split']): line for line in metrics_file.read_lines(folder)}
    for folder in (tmp_path, two)
  )
  common = left.keys() & right.keys()
  assert {(2, 'train'), (3, 'clicks')} <= common
  for key in common:
    for name, value in left[key].items():
      expected = right[key][name]
      if isinstance(value, float):
        expected = pytest.approx(expected, rel=1e-3, abs=1e-5)
      assert value == expected, (key, name)
  left, right = (np.load(folder / 'outcomes.npz') for folder in (tmp_path, two))
  assert set(left.files) == set(right.files) >= {'clicks/top1', 'clicks/epg_cam'}
  for name in left.files:
    if name.endswith('file_name'):
      assert left[name].tolist() == right[name].tolist()
    elif 'maxboxacc' not in name:  # the threshold for all images may differ
      np.testing.assert_allclose(left[name], right[name], rtol=1e-2, atol=1e-4, err_msg=name)


# run.py whose second process is killed in the middle of the run, with a shorter heartbeat timeout.
_RUN = """
import os, runpy, signal
from luab_jax.runtime import hosts
from luab_jax.train import metric_log
hosts.HEARTBEAT_SECONDS = 10
add = metric_log.RunLog.add
def dying_add(log, step, metrics):
  add(log, step, metrics)
  if step == 2 and os.environ['JAX_PROCESS_ID'] == '1':
    os.kill(os.getpid(), signal.SIGKILL)
metric_log.RunLog.add = dying_add
runpy.run_path('run.py', run_name='__main__')
"""


def test_of_two_processes_the_one_that_is_left_ends_and_names_the_lost_one(start_both):
  _, starts, statuses = start_both('one', '-c', _RUN)
  assert statuses == [69, 137], starts[0].output()
  starts[0].check_output(lines=2)
  assert 'run.py: another process was lost' in starts[0].output()
  assert 'run.py: it is process 1 of 2' in starts[0].output()
