"""The log of a run: an unwritable log never ends a run, and no line is lost or duplicated."""

import io
import json
import re
import resource
import sys
import time
import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.train import metric_log, metrics_file


def _log(workdir, **options):
  config = ConfigDict({'log_every': 2, 'batch_size': 4, 'data': {'image_size': 8}})
  return metric_log.RunLog(workdir, config, total_steps=10, num_examples=8, **options)


def _lines(workdir):
  return [(line['step'], line['split']) for line in metrics_file.read_lines(workdir)]


def _sums(loss, skipped=None):
  """The metric sums of a pmapped step on one device."""
  import jax.numpy as jnp

  sums = {'loss': (loss, 1.0), 'grad_norm': (1.0, 1.0)}
  if skipped is not None:
    sums = {name: (0.0, 0.0) if skipped else pair for name, pair in sums.items()}
    sums['skipped'] = (float(skipped), 1.0)
  return {name: tuple(jnp.full((1,), x) for x in pair) for name, pair in sums.items()}


@pytest.mark.parametrize('gone', [False, True])
def test_lines_wait_until_they_can_be_written(tmp_path, capfd, gone):
  workdir = tmp_path / 'run'
  workdir.mkdir()
  log = _log(workdir)
  log.write(1, 'validation', {'top1': 0.5})
  if gone:
    workdir.rename(tmp_path / 'elsewhere')
  else:
    (workdir / 'metrics.jsonl').rename(workdir / 'kept')
    (workdir / 'metrics.jsonl').mkdir()  # cannot be opened as a file, not even by root
  log.write(2, 'validation', {'top1': 0.6})
  log.write(3, 'validation', {'top1': 0.7})
  said = capfd.readouterr().err
  assert said.count('metrics.jsonl cannot be written') == 1 and 'training continues' in said
  if gone:
    (tmp_path / 'elsewhere').rename(workdir)
  else:
    (workdir / 'metrics.jsonl').rmdir()
    (workdir / 'kept').rename(workdir / 'metrics.jsonl')
  log.write(4, 'validation', {'top1': 0.8})
  log.close()
  assert _lines(workdir) == [(step, 'validation') for step in (1, 2, 3, 4)]


def test_a_line_for_which_there_is_half_the_room_is_written_later_and_once(tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  log = _log(tmp_path)
  log.write(1, 'validation', {'top1': 0.5})
  # Like a disk that fills up: 20 more bytes fit, then writing fails. It also fails for the stderr
  # that pytest captures, which must not end the run, either.
  resource.setrlimit(
    resource.RLIMIT_FSIZE, ((tmp_path / 'metrics.jsonl').stat().st_size + 20, limits[1])
  )
  try:
    log.write(2, 'validation', {'top1': 0.6})
    assert _lines(tmp_path) == [(1, 'validation')]
    waiting = log.unwritten_lines()
    assert json.loads(waiting)['step'] == 2
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  log.write(3, 'validation', {'top1': 0.7})
  log.close()
  whole = (tmp_path / 'metrics.jsonl').read_text()
  assert [json.loads(line)['step'] for line in whole.splitlines()] == [1, 2, 3]
  # As if it was killed before or after it wrote them, with a checkpoint of step 2.
  for left in (whole.splitlines(True)[0], whole):
    (tmp_path / 'metrics.jsonl').write_text(left)
    _log(tmp_path, start_step=2, metadata={'unwritten_lines': waiting}).close()
    assert (tmp_path / 'metrics.jsonl').read_text() == ''.join(whole.splitlines(True)[:2])


def test_what_never_could_be_written_is_said(tmp_path, capfd):
  log = _log(tmp_path)
  (tmp_path / 'metrics.jsonl').unlink()
  log.write(1, 'validation', {'top1': 0.5})
  log.close()
  assert 'metrics.jsonl: lines missing at the end: 1' in capfd.readouterr().err


def test_a_cut_line_and_what_comes_after_the_checkpoint_go(tmp_path):
  lines = [(2, 'train'), (2, 'validation'), (4, 'train'), (4, 'validation'), (6, 'train')]
  text = ''.join(json.dumps({'step': s, 'split': n}) + '\n' for s, n in lines)
  (tmp_path / 'metrics.jsonl').write_text(text + '{"step": 8, "spl')
  _log(tmp_path, start_step=4).close()
  assert _lines(tmp_path) == lines[:4]
  _log(tmp_path, start_step=4, drop_evaluation=True).close()
  assert _lines(tmp_path) == lines[:3]


def test_skipped_steps_are_counted_and_an_interval_of_nothing_else_ends_the_run(tmp_path):
  log = _log(tmp_path)
  for step, (loss, skipped) in enumerate([(3.0, 0), (0.0, 1), (5.0, 0), (7.0, 0)], start=1):
    log.add(step, _sums(loss, skipped))
  log.flush()
  first, second = metrics_file.read_lines(tmp_path)
  assert first['loss'] == 3 and first['skipped'] == 0.5
  assert second['loss'] == 6 and second['skipped'] == 0
  log.add(5, _sums(0.0, 1))
  log.add(6, _sums(0.0, 1))
  with pytest.raises(UserError, match='all 2 steps up to step 6 were skipped'):
    log.flush()
  log.close()


def test_the_last_finite_losses_are_named(tmp_path):
  log = _log(tmp_path)
  for step, loss in enumerate([9.0, 1.0, 2.0, 3.0, np.nan], start=1):
    log.add(step, _sums(loss))
  with pytest.raises(
    UserError,
    match=(r'step 5: the loss is nan .* were 1 .step 2., 2 .step 3., 3 .step 4.\. .*on_nan=skip'),
  ):
    log.flush()
  log.close()


@pytest.mark.parametrize(('terminal', 'host', 'shown'), [(1, 0, 1), (0, 0, 0), (1, 1, 0)])
def test_progress_with_the_time_left_is_for_terminals_and_the_main_host(
  tmp_path, monkeypatch, terminal, host, shown
):
  stderr = io.StringIO()
  stderr.isatty = lambda: bool(terminal)
  monkeypatch.setattr(sys, 'stderr', stderr)
  monkeypatch.setattr(jax, 'process_index', lambda: host)
  log = _log(tmp_path)
  for step in range(1, 5):
    time.sleep(0.12)  # the bar is drawn at most ten times per second
    log.add(step, _sums(1.0))
  log.close()
  assert bool(re.search(r'[34]/10 \[00:0\d<00:0\d', stderr.getvalue())) == shown
  assert (tmp_path / 'metrics.jsonl').exists() == (host == 0)


def test_compilation_and_evaluation_are_no_part_of_images_per_second(tmp_path, monkeypatch, capfd):
  now, speeds = [0.0], []
  monkeypatch.setattr(metric_log, 'time', types.SimpleNamespace(perf_counter=lambda: now[0]))
  writers = types.SimpleNamespace(
    scalars=lambda step, split, values: speeds.append(values.get('images_per_s'))
  )
  log = _log(tmp_path, writers=writers)
  log.compiling()
  now[0] += 45  # compiling the first step
  for step in range(1, 11):
    log.add(step, _sums(1.0))
    now[0] += 1  # one step of four images
    if step % 4 == 0:
      with log.paused():
        now[0] += 100
      log.write(step, 'validation', {'top1': 0.5})
  log.flush()
  log.close()
  train = [speed for speed in speeds if speed]
  assert train[1:] == pytest.approx([4] * 4, rel=0.6) and speeds.count(None) == 2
  assert sum(1 / speed for speed in train) == pytest.approx(5 / 4)
  assert log.ms_per_step() == 1000
  said = capfd.readouterr().err.splitlines()
  assert said[0] == 'compiling (once)' and len(said) == 8
  assert said[-1] == (
    'step 10 train: 4 images/s, loss 1.000, epoch 5.0 of 5.0, 04:15 elapsed, 00:00 left'
  )
  assert 'step 4 validation: top1 0.500, epoch 2.0 of 5.0, 02:29 elapsed, 02:36 left' in said


@pytest.mark.parametrize('columns', [80, 60])
def test_bar_and_images_per_second_are_seen_in_a_narrow_terminal(tmp_path, monkeypatch, columns):
  stderr = io.StringIO()
  stderr.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', stderr)
  log = _log(tmp_path)
  log._bar.dynamic_ncols = lambda file: (columns, 24)
  log.compiling()
  assert '0/10 [00:00<?], compiling (once)' in stderr.getvalue()
  log.add(1, _sums(1.0))
  assert 'compiling' not in stderr.getvalue().rpartition('\r')[2]
  numbers = dict(loss=0.7, class_loss=0.6, point_loss=0.01, top1=0.8, top5=0.9, click_error=0.1)
  log.write(2, 'train', numbers, images_per_s=12345.0)
  log.close()
  shown = [line for line in stderr.getvalue().split('\r') if 'images/s' in line][-1].strip()
  assert (
    re.fullmatch(r' *10%\|.{10}\| 1/10 \[.*\], 12345 images/s(, \w+ \d\.\d+)*', shown)
    and len(shown) < columns
  ), shown
  assert ('loss 0.700' in shown) == (columns == 80)
