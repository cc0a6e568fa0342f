"""Two processes train as one."""

import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

from luab_jax.train import loop, metrics_file
from tests.short_run import short_config

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_two_processes_train_as_one(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.num_epochs, config.model.sync_batch_norm = 1.0, True
  config.data.max_per_worker = 10
  one, two = tmp_path / 'one', tmp_path / 'two'
  loop.train_and_evaluate(config, one)
  arguments = [
    '--config.batch_size=32',
    '--config.num_epochs=1',
    '--config.log_every=2',
    '--config.checkpoint_every_steps=5',
    '--config.eval_every_epochs=2',
    f'--config.data.data_dir={synthetic_imagenet_ab}',
    '--config.data.train_split=train',
    '--config.data.max_per_worker=10',
    '--config.data.image_size=32',
    '--config.data.eval_resize=32',
    '--config.model.sync_batch_norm=True',
    '--config.optimizer.warmup_epochs=0.5',
    '--config.report_images=1',
  ]
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    address = f'localhost:{probe.getsockname()[1]}'
  processes = [
    subprocess.Popen(
      [sys.executable, 'run.py', '--config=configs/quickstart.py', f'--workdir={two}', *arguments],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={
        **os.environ,
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': str(index),
        'JAX_NUM_CPU_DEVICES': '1',
        # A donated state of another sharding than pmap's would be copied: twice the memory.
        'PYTHONWARNINGS': 'error:Donated pmap argument required resharding',
      },
    )
    for index in range(2)
  ]
  outputs = [process.communicate() for process in processes]
  assert [process.returncode for process in processes] == [0, 0], outputs
  assert '2 process(es)' in outputs[0][1]
  assert re.search(r'byproducts of train: \d+ of .* by data.max_per_worker=10\)', outputs[0][1])
  assert 'summary.json' in outputs[0][0]
  assert f'Open {two}/report.html' in outputs[0][0] and (two / 'report.html').exists()
  for name in ('summary.json', 'report.html'):
    assert name not in outputs[1][0]  # only the first process reports
  left, right = (
    {(line['step'], line['split']): line for line in metrics_file.read_lines(folder)}
    for folder in (one, two)
  )
  common = left.keys() & right.keys()
  assert {(2, 'train'), (3, 'uncorrelated')} <= common
  for key in common:
    for name, value in left[key].items():
      expected = right[key][name]
      if isinstance(value, float):
        expected = pytest.approx(expected, rel=1e-3, abs=1e-5)
      assert value == expected, (key, name)
