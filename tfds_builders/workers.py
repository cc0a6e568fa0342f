"""Makes records of images on all cores, in the order given: in threads or in processes.

Threads are there at once, and TensorFlow checks an image without Python's lock; all else is Python.
Processes take three seconds to start; one that reads and writes for six or so is busy itself.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from luab_jax import cores
from luab_jax.errors import UserError
from tfds_builders.build_summary import BuildSummary, SummaryCalls

# What a build does outside of its workers takes a sixth of what these do for an image.
MAX_WORKERS = 8
# Processes from here on: with less, threads are done before processes make up for their start.
MIN_BYTES = 2 << 30
_CHUNK = 8  # items; about a megabyte, so that handing them over costs little

# Makes a record of an item, and says to the summary what becomes of it: (key, record), or None.
Encode = Callable[[tuple, SummaryCalls], tuple[str, bytes] | None]


class Workers:
  """Threads or processes that share out the items of a build."""

  def __init__(self, encode: Encode, module: str, setup: object, total_bytes: int):
    """Starts processes where there are several cores and much to do.

    Args:
      encode: makes records in threads.
      module: of which `python -m` calls `serve` with the same function.
      setup: the message for its `start`.
      total_bytes: of the images to come.
    """
    count = min(cores(), MAX_WORKERS)
    self._pool = concurrent.futures.ThreadPoolExecutor(count)
    self._ahead = 2 * count  # chunks
    self._encode = encode
    self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
    self._processes = []
    if count > 1 and total_bytes >= MIN_BYTES:
      self._processes = [_Process(module, setup) for _ in range(count)]
      for process in self._processes:
        self._idle.put(process)

  def __enter__(self) -> 'Workers':
    return self

  def __exit__(self, *_) -> None:
    for process in self._processes:
      process.stop()
    self._pool.shutdown(cancel_futures=True)

  def records(self, items: Iterable[tuple], summary: BuildSummary) -> Iterator[tuple[str, bytes]]:
    """Yields (key, record) of each item that has one, in the order of the items.

    At most 8 items in each of two chunks a worker are held beyond the one that is yielded.

    Args:
      items: tuples of plain values, made while others are worked on.
      summary: told, in the same order, what the workers have to say.

    Raises:
      UserError: a process died.
    """
    waiting: collections.deque = collections.deque()
    items = iter(items)
    work = self._in_process if self._processes else self._in_thread
    try:
      while chunk := list(itertools.islice(items, _CHUNK)):
        waiting.append(self._pool.submit(work, chunk))
        if len(waiting) > self._ahead:
          yield from _told(waiting.popleft().result(), summary)
      while waiting:
        yield from _told(waiting.popleft().result(), summary)
    finally:
      for future in waiting:
        future.cancel()

  def _in_thread(self, chunk):
    return _worked(self._encode, chunk)

  def _in_process(self, chunk):
    process = self._idle.get()
    try:
      return process.ask(chunk)
    finally:
      self._idle.put(process)


def _worked(encode: Encode, chunk: list[tuple]) -> list[tuple]:
  """Returns (calls of the summary, (key, record) or None) of each item."""
  done = []
  for item in chunk:
    calls = SummaryCalls()
    record = encode(item, calls)
    done.append((calls, record))
  return done


def _told(done: list[tuple], summary: BuildSummary) -> Iterator[tuple[str, bytes]]:
  for calls, record in done:
    summary.repeat(calls)
    if record:
      yield tuple(record)


class _Process:
  """A process of ours, asked one thing at a time over pipes; messages are MessagePack."""

  def __init__(self, module: str, setup: object):
    paths = [os.path.abspath(path) for path in sys.path]
    environment = {
      **os.environ,
      'PYTHONPATH': os.pathsep.join(paths),
      'TF_CPP_MIN_LOG_LEVEL': '3',
      'CUDA_VISIBLE_DEVICES': '-1',
    }
    # A process group of its own: Ctrl-C is for the build, which then stops its workers.
    self._process = subprocess.Popen(
      [sys.executable, '-P', '-m', module],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=environment,
      process_group=0,
    )
    self._say(setup)

  def ask(self, message: object) -> object:
    """Sends a message and returns the answer.

    Raises:
      UserError: the process died, or is the one that raised it.
    """
    self._say(message)
    answer = _receive(self._process.stdout)
    if answer is None:
      self._died()
    error, trace, result = msgspec.msgpack.decode(answer)
    if error:
      raise UserError(error)
    if trace:
      raise RuntimeError(f'in a worker of the build:\n{trace}')
    return result

  def stop(self) -> None:
    """Ends the process, whatever it does."""
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()
    with contextlib.suppress(BrokenPipeError):  # what was not sent yet
      self._process.stdin.close()

  def _say(self, message):
    try:
      _send(self._process.stdin, message)
    except BrokenPipeError:
      self._died()

  def _died(self):
    status = self._process.wait()
    raise UserError(
      f'a worker of the build ended (status {status}{", killed" if status == -9 else ""}): if '
      'memory ran out, build with fewer, for instance two: taskset -c 0,1 <the same command>'
    )


def serve(start: Callable[[bytes], Encode], items: type) -> None:
  """Answers a build until it ends: the main function of a worker's process.

  Args:
    start: makes the function from the first message.
    items: type of the list of items, as msgspec decodes it.
  """
  requests, answers = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # so that nothing printed by a library gets between the answers
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a build that is gone takes no answers
  setup = _receive(requests)
  if setup is None:
    return
  encode = start(setup)
  decoder = msgspec.msgpack.Decoder(list[items])
  while (message := _receive(requests)) is not None:
    try:
      answer = '', '', _worked(encode, decoder.decode(message))
    except UserError as error:
      answer = str(error), '', None
    except Exception:  # the build raises it
      answer = '', traceback.format_exc(), None
    _send(answers, answer)


def _send(file: BinaryIO, message: object) -> None:
  data = msgspec.msgpack.encode(message, enc_hook=os.fspath)
  file.write(len(data).to_bytes(8, 'big'))
  file.write(data)
  file.flush()


def _receive(file: BinaryIO) -> bytes | None:
  """Returns the next message, or None if the other side is gone."""
  size = int.from_bytes(file.read(8), 'big')
  data = file.read(size)
  return data if data and len(data) == size else None
