"""Runs the inputs of one kind through its reader, with a time limit per input, and counts."""

import collections
import contextlib
import resource
import shutil
import signal
import time

import numpy as np

from tests.stress.fuzz import archives, builds, files, records

# name: (fraction of the inputs, make, check)
KINDS = {
  'ImageNet-AB XML': (0.28, records.make_xml, records.check_xml),
  'COCO-AB records': (0.16, records.make_coco_records, records.check_coco_records),
  'COCO instances': (0.08, records.make_coco_instances, records.check_coco_instances),
  'tar, tar.gz': (0.18, archives.make_tar, archives.check_tar),
  'zip': (0.08, archives.make_zip, archives.check_zip),
  'JPEG, PNG, BMP, GIF': (0.14, files.make_image, files.check_image),
  'npy mask': (0.04, files.make_mask, files.check_mask),
  'in_to_in9.json': (0.01, files.make_mapping, files.check_mapping),
  'imagenet_ab build': (0.03, builds.make_imagenet_build, builds.check_imagenet_build),
}
CPU_LIMIT = 10  # seconds per input


class TooSlow(BaseException):
  """An input took longer than CPU_LIMIT; not an Exception, so that no reader can catch it."""


class Result:
  """The outcomes of the inputs of one kind."""

  def __init__(self):
    self.inputs = self.refused = self.records_in = self.records_out = 0
    self.skipped = collections.Counter()
    self.cpu_seconds = 0.0
    self.slowest = [0.0, -1]  # CPU seconds, number of the input
    self.peak_mib = 0  # growth of the resident memory
    self.violations = []  # [number of the input, what happened]

  def add(self, outcome):
    """Counts an input whose reader kept its promises, or raises AssertionError."""
    skipped = outcome.skipped.total()
    assert outcome.records_in == outcome.records_out + skipped or outcome.refused, (
      f'{outcome.records_in} records in, {outcome.records_out} out, {skipped} skipped'
    )
    self.refused += bool(outcome.refused)
    self.records_in += outcome.records_in
    self.records_out += outcome.records_out
    self.skipped += outcome.skipped


def make_input(kind, number, seed, corpus):
  """Returns {file name: bytes}, the same for the same arguments."""
  rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
  return KINDS[kind][1](rng, corpus)


def run_kind(kind, inputs, seed, corpus, folder, progress=lambda number: None):
  """Runs `inputs` inputs of one kind in this process.

  Args:
    kind: a key of KINDS.
    inputs: how many.
    seed: int.
    corpus: inputs.Corpus.
    folder: pathlib.Path for the files, emptied before each input.
    progress: called with the number of each input before it is read.

  Returns:
    Result.
  """
  result = Result()
  start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for number in range(inputs):
    progress(number)
    files = make_input(kind, number, seed, corpus)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before = time.process_time()
    try:
      with time_limit():
        result.add(KINDS[kind][2](files, folder))
    except (Exception, TooSlow) as error:  # any exception is a violation
      result.violations.append([number, f'{type(error).__name__}: {error}'[:2000]])
    seconds = time.process_time() - before
    result.inputs += 1
    result.cpu_seconds += seconds
    result.slowest = max(result.slowest, [seconds, number])
  result.peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) >> 10
  return result


@contextlib.contextmanager
def time_limit():
  """Raises TooSlow in the block after CPU_LIMIT seconds of CPU time.

  A wall-clock timer checks the CPU clock: a CPU-time timer (ITIMER_PROF) would make that clock
  too coarse to measure single inputs.
  """
  start = time.process_time()

  def look(*_):
    if time.process_time() - start > CPU_LIMIT:
      raise TooSlow(f'more than {CPU_LIMIT} CPU seconds')

  saved = signal.signal(signal.SIGALRM, look)
  timer = signal.setitimer(signal.ITIMER_REAL, CPU_LIMIT / 2, CPU_LIMIT / 2)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, saved)
    signal.setitimer(signal.ITIMER_REAL, *timer)  # pytest-timeout's, for instance
