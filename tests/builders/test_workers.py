"""Builds share out their work to threads or processes, and nothing in them depends on which."""

import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from luab_jax.errors import UserError
from tfds_builders import build, build_summary, workers
from tfds_builders.imagenet_ab import small_release

ROOT = pathlib.Path(__file__).parents[2]
MINI_COCO = ROOT.parent / 'shared' / 'mini_release' / 'coco_ab'

# A worker whose record of a number is its square.
WORKER = """
import os, sys, time
from luab_jax.errors import UserError
from tfds_builders import workers

def square(item, summary):
  number, order = item
  summary.add('numbers')
  if order == 'skip':
    summary.skip('odd one', f'number {number}', ValueError('so it was said'))
    return None
  if order == 'refuse':
    raise UserError('mend it')
  if order == 'fail':
    raise KeyError('of the worker')
  if order == 'die':
    os._exit(7)
  if order == 'print':
    print('not an answer')
  if order == 'late':
    time.sleep(0.05)
  return str(number), b'%d' % number**2

if __name__ == '__main__':
  workers.serve(lambda setup: square, tuple[int, str])
"""


def _photo(rng, size):
  """A JPEG of noise; `size` is (width, height)."""
  file = io.BytesIO()
  Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(file, 'JPEG')
  return file.getvalue()


def _build(dataset, raw, folder, monkeypatch, count, processes):
  """Builds with so many workers; returns {file: bytes}."""
  started = []

  class Counted(workers._Process):
    def __init__(self, *args):
      super().__init__(*args)
      started.append(self)

  with monkeypatch.context() as patch:
    patch.setattr(workers, '_Process', Counted)
    patch.setattr(workers, 'cores', lambda: count)
    patch.setattr(workers, 'MIN_BYTES', 0 if processes else 1 << 60)
    path = build.build(dataset, manual_dir=raw, data_dir=folder)
  assert len(started) == (count if processes else 0)
  return {file.name: file.read_bytes() for file in path.iterdir()}


WAYS = {'one thread': (1, False), 'two threads': (2, False), 'two processes': (2, True)}


def _all_ways(dataset, raw, tmp_path, monkeypatch, capsys, caplog):
  """Builds in every way, checks that files, counts and log agree, and returns them."""
  builds, counts, logs = [], [], []
  for name, way in WAYS.items():
    caplog.clear()
    builds.append(_build(dataset, raw, tmp_path / name, monkeypatch, *way))
    counts.append(capsys.readouterr().out.split(f'Summary of {dataset}\n')[1].partition('\nDat')[0])
    logs.append(sorted(message for message in caplog.messages if message.startswith('Skipped')))
  assert builds[0] == builds[1] == builds[2]
  assert counts[0] == counts[1] == counts[2]
  assert logs[0] == logs[1] == logs[2]
  return builds[0], counts[0], logs[0]


def test_imagenet_ab_has_the_same_bytes_however_it_is_shared_out(
  tmp_path, monkeypatch, capsys, caplog
):
  """Damaged images, damaged XMLs and twins included: which of two counts, and what is counted."""
  monkeypatch.setenv('LUAB_MAX_BAD_SHARE', '1')
  rng = np.random.default_rng(0)
  classes = {
    name: {f'{i}.JPEG': _photo(rng, rng.integers(20, 90, 2)) for i in range(30)}
    for name in ('cat', 'dog')
  }
  classes['cat']['7.JPEG'] = classes['cat']['7.JPEG'][:300]
  classes['dog']['./8.JPEG'] = _photo(rng, (33, 44))  # 8.JPEG again
  xmls = {'cat/1': small_release.CLICKED, 'dog/2': b'<annotation>', 'owl/1': small_release.CLICKED}
  raw = small_release.write_release(tmp_path / 'raw', classes, xmls)
  files, counts, log = _all_ways('imagenet_ab/local', raw, tmp_path, monkeypatch, capsys, caplog)
  assert any('train' in name and 'tfrecord' in name for name in files)
  assert len(re.findall(r'(?m)^  \w.* \d+$', counts)) > 8
  for what in ('undecodable image', 'given twice', 'corrupt XML'):
    assert what in counts and any(what in line for line in log)
  assert 'XMLs of no image' in counts


def test_coco_ab_has_the_same_bytes_however_it_is_shared_out(tmp_path, monkeypatch, capsys, caplog):
  files, counts, _ = _all_ways('coco_ab/local', MINI_COCO, tmp_path, monkeypatch, capsys, caplog)
  assert any('tfrecord' in name for name in files) and 'with a record' in counts


def _workers(tmp_path, monkeypatch, *, count=2, processes=True):
  """The workers of WORKER."""
  path = tmp_path / 'square_worker.py'
  path.write_text(WORKER)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setattr(workers, 'cores', lambda: count)
  namespace = {'__name__': 'square_worker'}
  exec(compile(WORKER, str(path), 'exec'), namespace)
  return workers.Workers(namespace['square'], 'square_worker', {}, 1 << 60 if processes else 0)


def _summary():
  return build_summary.BuildSummary('numbers', ('numbers',))


@pytest.mark.parametrize('processes', [False, True])
def test_records_come_in_order_and_few_items_are_held(tmp_path, monkeypatch, caplog, processes):
  taken = 0

  def items():
    nonlocal taken
    for number in range(200):
      taken += 1
      yield number, {5: 'skip', 16: 'late', 17: 'print'}.get(number, '')

  summary = _summary()
  with _workers(tmp_path, monkeypatch, processes=processes) as shared:
    for given, (key, record) in enumerate(shared.records(items(), summary)):
      number = given + (given >= 5)
      assert (key, record) == (str(number), b'%d' % number**2)
      assert taken <= number + 8 * (2 * 2 + 1) + 8
  assert given == 198
  assert summary.state() == {'counts': {'numbers': 200}, 'skipped': {'odd one': 1}, 'noted': {}}
  assert caplog.messages == ['Skipped odd one: number 5: so it was said']


@pytest.mark.parametrize('processes', [False, True])
def test_an_error_of_the_reader_ends_the_records_at_once(tmp_path, monkeypatch, processes):
  def items():
    yield 1, ''
    raise KeyError('of the reader')

  with (
    _workers(tmp_path, monkeypatch, processes=processes) as shared,
    pytest.raises(KeyError, match='of the reader'),
  ):
    list(shared.records(items(), _summary()))


@pytest.mark.parametrize(
  'order, kind, text',
  [
    ('refuse', UserError, '^mend it$'),
    ('fail', RuntimeError, r"in a worker of the build:\n(?s:.*)KeyError: 'of the worker'"),
    ('die', UserError, r'^a worker of the build ended \(status 7\): .* taskset -c 0,1 [^\n]*$'),
  ],
)
def test_what_goes_wrong_in_a_process_is_raised_by_the_build(
  tmp_path, monkeypatch, order, kind, text
):
  with _workers(tmp_path, monkeypatch) as shared:
    pids = [process._process.pid for process in shared._processes]
    with pytest.raises(kind, match=text):
      list(
        shared.records(
          ((number, order if number == 30 else '') for number in range(99)), _summary()
        )
      )
  for pid in pids:
    assert not pathlib.Path(f'/proc/{pid}').exists()


def test_a_process_that_cannot_start_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(workers, 'cores', lambda: 2)
  with (
    workers.Workers(lambda *_: None, 'no_such_module', {}, 1 << 60) as shared,
    pytest.raises(UserError, match=r'^a worker of the build ended \(status 1\)'),
  ):
    list(shared.records([(1, '')], _summary()))


@pytest.mark.parametrize('kill', [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_build(tmp_path, kill):
  """Whether the build is interrupted or killed without a word."""
  (tmp_path / 'square_worker.py').write_text(WORKER)
  code = textwrap.dedent("""
      import itertools, signal
      from tfds_builders import build_summary, workers
      signal.signal(signal.SIGINT, signal.default_int_handler)
      workers.cores = lambda: 2
      with workers.Workers(None, 'square_worker', {}, 1 << 60) as shared:
        print(*[process._process.pid for process in shared._processes], flush=True)
        items = ((number, 'late') for number in itertools.count())
        for key, _ in shared.records(items, build_summary.BuildSummary('', ('numbers',))):
          if key == '20':
            print('at work', flush=True)
      """)
  environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{tmp_path}'}
  with subprocess.Popen(
    [sys.executable, '-c', code],
    env=environment,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as process:
    pids = process.stdout.readline().split()
    assert len(pids) == 2 and process.stdout.readline() == 'at work\n'
    process.send_signal(kill)
    errors = process.communicate(timeout=30)[1]
  assert (process.returncode == -9) if kill == signal.SIGKILL else 'KeyboardInterrupt' in errors
  patience = time.monotonic() + 20
  while any(_is_ours(pid) for pid in pids):
    assert time.monotonic() < patience, 'a worker is left'
    time.sleep(0.05)


def _is_ours(pid):
  """Whether it runs, and is no process that was given the number since."""
  try:
    return b'square_worker' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
  except FileNotFoundError:
    return False
