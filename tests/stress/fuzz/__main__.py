"""Feeds damaged and hostile files to the readers: no crash, hang, memory blow-up or silent loss.

Each kind of input runs in its own process, with a limit on memory and on the time per input. Every
input is either refused with one UserError, or its records are read or skipped with a reason and the
counts add up: records in = out + skipped. Anything else is a violation: the input is written to
--failures, and the exit status is 1.

  python -m tests.stress.fuzz [--inputs=100000] [--seed=0] [--only=KIND] [--failures=DIR]

Needs Linux and the packages of requirements-test.txt. Takes about ten minutes on one core.
"""

import argparse
import collections
import json
import mmap
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time

from absl import logging

from tests.stress.fuzz.inputs import Corpus
from tests.stress.fuzz.runner import KINDS, Result, make_input, run_kind

WALL_LIMIT = 120  # seconds without progress; the machine may be busy
MEMORY_LIMIT = 2 << 30  # bytes of address space beyond what the packages need
ENVIRONMENT = {
  'LUAB_MAX_BAD_SHARE': '1',  # so that builds count all bad input
  'PYTHONWARNINGS': 'ignore',  # NumPy and Pillow warn about some kinds of damage
  'CUDA_VISIBLE_DEVICES': '-1',
  'TF_CPP_MIN_LOG_LEVEL': '3',
}


def work(kind, inputs, seed, folder):
  """The worker process of one kind: writes its progress and its result to the folder."""
  logging.set_verbosity(logging.FATAL)  # readers log each skip
  corpus = Corpus(folder / 'corpus')
  run_kind(kind, min(inputs, 20), seed, corpus, folder / 'files')  # triggers lazy imports
  size = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * mmap.PAGESIZE
  resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_LIMIT,) * 2)
  with open(folder / 'progress', 'r+b') as file, mmap.mmap(file.fileno(), 8) as shared:

    def progress(number):
      struct.pack_into('<q', shared, 0, number)

    result = run_kind(kind, inputs, seed, corpus, folder / 'files', progress)
  (folder / 'result.json').write_text(json.dumps(vars(result)))


def supervise(kind, inputs, seed, folder):
  """Runs `work` in its own process, whose crash or hang is a violation, too; returns a Result."""
  progress = folder / 'progress'
  progress.write_bytes(bytes(8))
  (folder / 'result.json').unlink(missing_ok=True)
  command = [sys.executable, '-m', 'tests.stress.fuzz', f'--worker={folder}']
  with open(folder / 'stderr', 'wb') as stderr:  # libjpeg reports each damaged image there
    process = subprocess.Popen(
      [*command, f'--inputs={inputs}', f'--seed={seed}', f'--only={kind}'],
      cwd=pathlib.Path(__file__).resolve().parents[3],
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
  what = 'hung and was killed' if process.returncode == -signal.SIGKILL else 'died'
  stderr = (folder / 'stderr').read_text(errors='replace')[-2000:]
  result.violations.append([number, f'the process {what}, status {process.returncode}: {stderr}'])
  return result


HEADER = 'kind,inputs,refused,records in,out,skipped,CPU s,slowest s,MiB more,violations'


def format_table(results):
  """Returns a Markdown table, with the reasons for skips below it."""
  rows = [
    [
      kind,
      r.inputs,
      r.refused,
      r.records_in,
      r.records_out,
      r.skipped.total(),
      r.cpu_seconds,
      r.slowest[0],
      r.peak_mib,
      len(r.violations),
    ]
    for kind, r in results.items()
  ]
  columns = list(zip(*rows, strict=True))
  total = [max(column) if i in (7, 8) else sum(column) for i, column in enumerate(columns) if i]
  lines = [HEADER.split(','), ['---'] * len(rows[0])]
  for name, *numbers in [*rows, ['all', *total]]:
    lines.append([name, *(f'{n:,.2f}' if isinstance(n, float) else f'{n:,}' for n in numbers)])
  text = '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n\nskipped, by reason:'
  for kind, result in results.items():
    reasons = '; '.join(f'{n:,} × {reason}' for reason, n in result.skipped.most_common(6))
    text += f'\n  {kind}: {reasons or "none"}'
  return text


def save_failures(kind, result, seed, corpus, folder):
  """Writes the inputs of the first violations."""
  for number, what in result.violations[:10]:
    target = folder / f'{kind.replace(" ", "_").replace(",", "")}_{seed}_{number}'
    target.mkdir(parents=True, exist_ok=True)
    for name, data in make_input(kind, number, seed, corpus).items():
      (target / name).write_bytes(data)
    print(f'VIOLATION {kind}, input {number}: {what}\n  written to {target}', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--inputs', type=int, default=100_000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', choices=KINDS, help='use only inputs of this kind')
  parser.add_argument('--failures', type=pathlib.Path, default='fuzz_failures')
  parser.add_argument('--worker', type=pathlib.Path, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    work(args.only, args.inputs, args.seed, args.worker)
    return
  results = {}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    corpus = Corpus(folder / 'corpus')
    for kind, (fraction, *_) in KINDS.items():
      if args.only in (None, kind):
        inputs = args.inputs if args.only else round(fraction * args.inputs)
        results[kind] = supervise(kind, inputs, args.seed, folder)
        save_failures(kind, results[kind], args.seed, corpus, args.failures)
  print(format_table(results))
  sys.exit(any(result.violations for result in results.values()))


if __name__ == '__main__':
  main()
