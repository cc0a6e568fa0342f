"""Kills and signals: the same command resumes the run, which ends with the same bits."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from luab_jax.evaluate import evaluate
from luab_jax.evaluate.predictor import restore_newest
from luab_jax.runtime import preemption
from luab_jax.train import loop, metric_log, metrics_file
from tests.short_run import assert_same_bits, short_config

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _assert_same_run(left, right):
  assert_same_bits(restore_newest(left)[0], restore_newest(right)[0])
  for name in ('metrics.jsonl', 'outcomes.npz'):
    assert (left / name).read_bytes() == (right / name).read_bytes(), name


def _raise(number):
  signal.raise_signal(number)
  time.sleep(0.2)  # long enough for the listening thread to notice


def _at_step(monkeypatch, step, disturb):
  """Calls `disturb(log)` after a step."""
  add = metric_log.RunLog.add

  def disturbed_add(self, number, metrics):
    add(self, number, metrics)
    if number == step:
      disturb(self)

  monkeypatch.setattr(metric_log.RunLog, 'add', disturbed_add)


def _signalled_in_evaluation(monkeypatch, number, at):
  """`at`: the number of the split evaluation, counted from this start."""
  calls, evaluate_split = [], evaluate.evaluate_split

  def signalled(*args, **kwargs):
    calls.append(1)
    if len(calls) == at:
      _raise(number)
    return evaluate_split(*args, **kwargs)

  monkeypatch.setattr(evaluate, 'evaluate_split', signalled)


class Killed(Exception):
  """Stands for the end of the process: nothing more is written."""


def _die(log):
  log.flush()  # the worst case: lines after the last checkpoint are already on disk
  raise Killed


def _signalled_at_step(monkeypatch, number, at):
  _at_step(monkeypatch, at, lambda _: _raise(number))


@pytest.mark.end_to_end
def test_a_run_that_is_killed_or_stopped_anywhere_goes_on_and_ends_with_the_same_bits(
  synthetic_imagenet_ab, undisturbed_run, tmp_path, monkeypatch, capfd
):
  config = short_config(synthetic_imagenet_ab)
  for dies_at in (3, 8):  # before the first checkpoint, and after one and an evaluation
    with monkeypatch.context() as patch:
      _at_step(patch, dies_at, _die)
      with pytest.raises(Killed):
        loop.train_and_evaluate(config, tmp_path)
  for disturb, number, at, step in (
    # Two splits, evaluated after steps 6 and 9: the next start repeats an aborted evaluation.
    (_signalled_in_evaluation, signal.SIGTERM, 2, 6),
    (_signalled_at_step, signal.SIGINT, 7, 7),  # no checkpoint was due at this step
    (_signalled_in_evaluation, signal.SIGTERM, 2, 9),
  ):
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
      disturb(patch, number, at)
      with pytest.raises(preemption.Preempted, match=f'stopped and saved at step {step} of 9'):
        loop.train_and_evaluate(config, tmp_path)
    assert f'{number.name}: finishing the step and saving, at most 30 s' in capfd.readouterr().err
    assert restore_newest(tmp_path)[1]['step'] == step
    assert signal.getsignal(number) == handler  # restored
    lines = metrics_file.read_lines(tmp_path)
    assert {line['split'] for line in lines if line['step'] == step} <= {'train'}
  summary = loop.train_and_evaluate(config, tmp_path).summary
  _assert_same_run(undisturbed_run, tmp_path)
  assert set(summary['results']) == set(config.data.eval_splits)


def test_a_run_killed_between_two_lines_of_its_last_evaluation_repeats_it(
  synthetic_imagenet_ab, undisturbed_run, tmp_path
):
  shutil.copytree(undisturbed_run, tmp_path / 'run')
  whole = (undisturbed_run / 'metrics.jsonl').read_text()
  (tmp_path / 'run' / 'metrics.jsonl').write_text(whole[:-20])  # the last line is cut off
  (tmp_path / 'run' / 'summary.json').unlink()
  loop.train_and_evaluate(short_config(synthetic_imagenet_ab), tmp_path / 'run')
  _assert_same_run(undisturbed_run, tmp_path / 'run')


_SLOW = """
import hashlib, sys, time
from luab_jax.runtime import preemption
with preemption.StopRequest(float(sys.argv[1])) as stop:
  print('ready', flush=True)
  if sys.argv[2] == 'busy':
    # One call that lets other threads run, as a compilation does: Python's own signal handlers
    # run only after it ends.
    hashlib.pbkdf2_hmac('sha512', b'a', b'b', 10**8)
  time.sleep(600)
"""


@pytest.mark.parametrize(
  ('grace', 'signals', 'busy', 'status', 'words'),
  [(20, 2, 'idle', 143, 'a second signal'), (0.5, 1, 'busy', 143, 'not saved within 0.5 s')],
)
def test_a_second_signal_or_the_end_of_the_grace_period_ends_at_once(
  grace, signals, busy, status, words
):
  process = subprocess.Popen(
    [sys.executable, '-c', _SLOW, str(grace), busy],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
  )
  assert process.stdout.readline() == 'ready\n'
  for _ in range(signals):
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
  _, errors = process.communicate()
  assert process.returncode == status and words in errors


_COLLECTING = """
import gc, os, runpy, signal, sys
def collected(*_):  # like JAX's callback, in which an exception is printed and dropped
  if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
    os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
gc.callbacks.append(collected)
gc.set_threshold(1)
sys.argv = ['run.py', '--help']
runpy.run_path('run.py', run_name='__main__')
"""


def test_sigint_is_not_lost_in_a_callback():
  """A signal at start-up once hit JAX's garbage collection callback, and the run continued."""
  done = subprocess.run(
    [sys.executable, '-c', _COLLECTING], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 130, done.stdout + done.stderr
  assert done.stderr == 'run.py: interrupted; earlier checkpoints are kept\n'
