"""Damaged and hostile files through the readers: no crash, no hang, no memory, no silent loss.

Each kind of input runs in a process of its own, under a limit of memory and of time an input. Every
input either is refused as a whole with one UserError, or its records are read or skipped with a
reason, and the counts add up: records in = out + skipped. Whatever else happens is a violation: the
input is written to --failures, and the exit status is 1.

  python benchmarks/fuzz.py [--inputs=100000] [--seed=0] [--only=KIND] [--failures=DIR]

Needs Linux and the packages of requirements-test.txt. Takes about ten minutes of one core.
"""

import argparse
import collections
import contextlib
import json
import mmap
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from absl import logging  # noqa: E402

from benchmarks import fuzz_archives, fuzz_inputs, fuzz_readers  # noqa: E402

# name: (share of the inputs, make, check)
KINDS = {
  'ImageNet-AB XML': (0.28, fuzz_readers.make_xml, fuzz_readers.check_xml),
  'COCO-AB records': (0.16, fuzz_readers.make_coco_records, fuzz_readers.check_coco_records),
  'COCO instances': (0.08, fuzz_readers.make_coco_instances, fuzz_readers.check_coco_instances),
  'tar, tar.gz': (0.18, fuzz_archives.make_tar, fuzz_archives.check_tar),
  'zip': (0.08, fuzz_archives.make_zip, fuzz_archives.check_zip),
  'JPEG, PNG, BMP, GIF': (0.14, fuzz_readers.make_image, fuzz_readers.check_image),
  'npy mask': (0.04, fuzz_readers.make_mask, fuzz_readers.check_mask),
  'in_to_in9.json': (0.01, fuzz_readers.make_mapping, fuzz_readers.check_mapping),
  'imagenet_ab build': (
    0.03,
    fuzz_archives.make_imagenet_build,
    fuzz_archives.check_imagenet_build,
  ),
}
CPU_LIMIT = 10  # seconds an input
WALL_LIMIT = 120  # seconds without progress, on a machine that may do other work
ENVIRONMENT = {
  'LUAB_MAX_BAD_SHARE': '1',  # so that builds count all that is bad
  'PYTHONWARNINGS': 'ignore',  # numpy and Pillow warn of some damage
  'CUDA_VISIBLE_DEVICES': '-1',
  'TF_CPP_MIN_LOG_LEVEL': '3',
}
MEMORY_LIMIT = 2 << 30  # bytes of address space beyond what the packages take


class TooSlow(BaseException):
  """An input took more than CPU_LIMIT; no Exception, so that no reader can catch it."""


class Result:
  """What became of the inputs of one kind."""

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
  """Runs that many inputs of one kind in this process.

  Args:
    kind: a key of KINDS.
    inputs: how many.
    seed: int.
    corpus: fuzz_inputs.Corpus.
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
    except (Exception, TooSlow) as error:  # whatever it is: that is what is looked for
      result.violations.append([number, f'{type(error).__name__}: {error}'[:2000]])
    seconds = time.process_time() - before
    result.inputs += 1
    result.cpu_seconds += seconds
    result.slowest = max(result.slowest, [seconds, number])
  result.peak_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) >> 10
  return result


@contextlib.contextmanager
def time_limit():
  """Raises TooSlow in the block after CPU_LIMIT seconds of CPU.

  Looks at the CPU clock from time to time: a timer of CPU time (ITIMER_PROF) makes that clock too
  coarse to measure an input with.
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
    signal.setitimer(signal.ITIMER_REAL, *timer)  # of pytest-timeout, for instance


def work(kind, inputs, seed, folder):
  """The process of one kind: leaves its progress and its result in the folder."""
  logging.set_verbosity(logging.FATAL)  # readers log each skip
  corpus = fuzz_inputs.Corpus(folder / 'corpus')
  run_kind(kind, min(inputs, 20), seed, corpus, folder / 'files')  # loads what loads late
  size = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * mmap.PAGESIZE
  resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_LIMIT,) * 2)
  with open(folder / 'progress', 'r+b') as file, mmap.mmap(file.fileno(), 8) as shared:
    result = run_kind(
      kind,
      inputs,
      seed,
      corpus,
      folder / 'files',
      lambda number: struct.pack_into('<q', shared, 0, number),
    )
  (folder / 'result.json').write_text(json.dumps(vars(result)))


def supervise(kind, inputs, seed, folder):
  """Runs `work` in a process of its own; a crash or a hang of it is a violation too."""
  progress = folder / 'progress'
  progress.write_bytes(bytes(8))
  (folder / 'result.json').unlink(missing_ok=True)
  with open(folder / 'stderr', 'wb') as stderr:  # libjpeg comments on each damaged image
    process = subprocess.Popen(
      [
        sys.executable,
        __file__,
        f'--inputs={inputs}',
        f'--seed={seed}',
        f'--only={kind}',
        f'--worker={folder}',
      ],
      stderr=stderr,
      env={**os.environ, **ENVIRONMENT},
    )
  last, since = b'', time.monotonic()
  while process.poll() is None:
    time.sleep(0.2)
    if progress.read_bytes() != last:
      last, since = progress.read_bytes(), time.monotonic()
    if time.monotonic() - since > WALL_LIMIT:
      process.kill()
  result = Result()
  if process.returncode == 0:
    vars(result).update(json.loads((folder / 'result.json').read_text()))
    result.skipped = collections.Counter(result.skipped)
    return result
  (number,) = struct.unpack('<q', progress.read_bytes())
  result.inputs = number + 1
  what = 'killed as it hung' if process.returncode == -signal.SIGKILL else 'died'
  said = (folder / 'stderr').read_text(errors='replace')[-2000:]
  result.violations.append([number, f'the process {what}, status {process.returncode}: {said}'])
  return result


def table(results):
  """Returns the lines of a table, and the reasons of skips below it."""
  head = [
    'kind',
    'inputs',
    'refused',
    'records in',
    'out',
    'skipped',
    'CPU s',
    'slowest s',
    'MiB more',
    'violations',
  ]
  rows = [
    [
      kind,
      r.inputs,
      r.refused,
      r.records_in,
      r.records_out,
      r.skipped.total(),
      round(r.cpu_seconds, 1),
      round(r.slowest[0], 2),
      r.peak_mib,
      len(r.violations),
    ]
    for kind, r in results.items()
  ]
  total = [
    'all',
    *(sum(row[i] for row in rows) for i in range(1, 7)),
    max(row[7] for row in rows),
    max(row[8] for row in rows),
    sum(row[9] for row in rows),
  ]
  lines = ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|']
  for row in [*rows, [round(cell, 1) if isinstance(cell, float) else cell for cell in total]]:
    cells = [f'{cell:,}' if isinstance(cell, (int, float)) else cell for cell in row]
    lines.append('| ' + ' | '.join(cells) + ' |')
  lines.append('\nskipped, by reason:')
  for kind, result in results.items():
    reasons = '; '.join(f'{n:,} × {reason}' for reason, n in result.skipped.most_common(6))
    lines.append(f'  {kind}: {reasons or "none"}')
  return lines


def save_failures(kind, result, seed, corpus, folder):
  """Writes the inputs of the first violations."""
  for number, what in result.violations[:10]:
    place = folder / f'{kind.replace(" ", "_").replace(",", "")}_{seed}_{number}'
    place.mkdir(parents=True, exist_ok=True)
    for name, data in make_input(kind, number, seed, corpus).items():
      (place / name).write_bytes(data)
    print(f'VIOLATION {kind}, input {number}: {what}\n  written to {place}', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--inputs', type=int, default=100_000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', choices=KINDS, help='all inputs of this kind')
  parser.add_argument('--failures', type=pathlib.Path, default='fuzz_failures')
  parser.add_argument('--worker', type=pathlib.Path, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    work(args.only, args.inputs, args.seed, args.worker)
    return
  results = {}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    corpus = fuzz_inputs.Corpus(folder / 'corpus')
    for kind, (share, *_) in KINDS.items():
      if args.only in (None, kind):
        inputs = args.inputs if args.only else round(share * args.inputs)
        results[kind] = supervise(kind, inputs, args.seed, folder)
        save_failures(kind, results[kind], args.seed, corpus, args.failures)
  print('\n'.join(table(results)))
  sys.exit(any(result.violations for result in results.values()))


if __name__ == '__main__':
  main()
