"""One training run at a time per workdir; the lock of a process that died is taken over."""

import json
import os
import socket
import subprocess
import sys

import pytest

from luab_jax.errors import UserError
from luab_jax.runtime import lock
from luab_jax.runtime.workdir import locked

_HOLD = """
import pathlib, sys
from luab_jax.runtime import lock
lock.acquire(pathlib.Path(sys.argv[1]))
print('locked', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
  """Another process that holds the lock of tmp_path."""
  process = subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'locked\n'
  yield process
  process.kill()
  process.communicate()


def test_the_second_is_refused_and_named_whom_by(tmp_path, other):
  for _ in range(2):
    with pytest.raises(UserError) as error:
      lock.acquire(tmp_path)
    assert f'{tmp_path} is in use by process {other.pid} on {socket.gethostname()}' in str(error)
    assert lock.is_held(tmp_path)
  assert json.loads((tmp_path / 'lock.json').read_text())['pid'] == other.pid


def test_the_lock_of_a_dead_process_is_taken_over_with_a_word(tmp_path, other, capfd):
  other.kill()
  other.communicate()
  assert not lock.is_held(tmp_path)
  with locked(tmp_path):
    assert f'process {other.pid} on {socket.gethostname()} has ended' in capfd.readouterr().err
    assert json.loads((tmp_path / 'lock.json').read_text())['pid'] == os.getpid()
  assert not any(tmp_path.iterdir())
  with locked(tmp_path):
    pass
  assert capfd.readouterr().err == ''


def test_the_pid_of_a_dead_process_may_be_that_of_another_now(tmp_path):
  """For example in a restarted container, whose processes get the same pids again."""
  for pid in (os.getpid(), os.getppid()):
    (tmp_path / 'lock.json').write_text(json.dumps({'host': socket.gethostname(), 'pid': pid}))
    with locked(tmp_path):
      pass


def test_a_lock_of_another_machine_is_kept(tmp_path):
  text = json.dumps({'host': 'elsewhere', 'pid': 1})
  (tmp_path / 'lock.json').write_text(text)
  with pytest.raises(
    UserError, match='process 1 on elsewhere, another machine.*delete .*lock.json'
  ):
    lock.acquire(tmp_path)
  assert (tmp_path / 'lock.json').read_text() == text


@pytest.mark.parametrize('text', ['', '{"host"', '[]'])
def test_a_half_written_lock_is_free(tmp_path, text):
  (tmp_path / 'lock.json').write_text(text)
  with locked(tmp_path):
    pass


def test_a_file_system_without_locks_goes_by_the_pid(tmp_path, monkeypatch):
  def unsupported(*_):
    raise OSError(38, 'Function not implemented')

  monkeypatch.setattr(lock.fcntl, 'flock', unsupported)
  for pid, alive in ((os.getppid(), True), (os.getpid(), False), (2**22 + 1, False)):
    (tmp_path / 'lock.json').write_text(json.dumps({'host': socket.gethostname(), 'pid': pid}))
    assert lock.is_held(tmp_path) == alive
    if alive:
      with pytest.raises(UserError, match='is in use by process'):
        lock.acquire(tmp_path)


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(UserError, match='cannot write to --workdir='),
    locked(tmp_path / 'file' / 'x'),
  ):
    pass


def test_an_exit_without_cleaning_up_unlocks(tmp_path):
  code = _HOLD.replace('sys.stdin.read()', 'lock.release_all()\nimport os\nos._exit(69)')
  subprocess.run([sys.executable, '-c', code, str(tmp_path)], check=False)
  assert not any(tmp_path.iterdir())
