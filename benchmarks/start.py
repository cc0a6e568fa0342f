"""Time from start to the first step, and from kill to training again, as users see it.

Processes of run.py on a small synthetic data set, one at a time, each killed once its first step
is in metrics.jsonl:
  cold            no compiled step is on disk
  warm            an earlier run has filled the cache of compiled steps
  killed          SIGKILL after a checkpoint, restarted with the same command: from the restart to
                  the first new step, restoring included
Seconds count from the start of the process; CPU seconds are those of the process. Needs Linux.

  python -m benchmarks start [--rounds=2]
"""

import itertools
import pathlib
import shutil
import tempfile
import time

from benchmarks import harness

_EVERY_STEP = {'log_every': 1, 'eval_every_epochs': 1e6, 'report_images': 0, 'keep_best': ''}
# name: config keys. As CPUs train slowly, the larger model is there for its compile time.
CASES = {
  'quickstart (tiny_conv, 32 px)': {},
  'ResNet-50, 64 px, 16 images': {
    'model.name': 'resnet50',
    'data.image_size': 64,
    'data.eval_resize': 64,
    'batch_size': 16,
    'data.train_split': 'train[:200]',
  },
}


def first_step(start):
  """Seconds to the first step of a started run, which is then killed."""

  def done():
    first = start.first_step()  # printed once metrics.jsonl holds nothing beyond it
    return first is not None and any(line['step'] > first for line in start.run.lines())

  if not start.wait_until(done):
    raise SystemExit(f'run.py ended before its first step: {start.last_line()}')
  seconds = time.monotonic() - start.began
  start.kill()
  return seconds


def measure(options, folder, data_dir, case, keys, numbers):
  """One comparison; see the module's docstring. `numbers`: unique numbers for folder names."""
  from tests.stress.faults.runs import Run

  def run(name):
    return Run(
      folder,
      f'{name}{next(numbers)}',
      data_dir,
      total_steps=10_000,
      checkpoint_every_steps=3,
      **(_EVERY_STEP | keys),
    )

  def cold():
    cache = folder / f'cache{next(numbers)}'
    return 1, {'seconds': first_step(run('cold').start(JAX_COMPILATION_CACHE_DIR=str(cache)))}

  def warm():
    return 1, {'seconds': first_step(run('warm').start())}

  interrupted = run('killed')
  start = interrupted.start()
  start.wait_until(lambda: interrupted.saved_steps())
  start.kill()

  def killed():
    # What an earlier start saved is removed, so that each starts from the same step.
    shutil.rmtree(interrupted.workdir, ignore_errors=True)
    shutil.copytree(folder / 'kept', interrupted.workdir)
    return 1, {'seconds': first_step(interrupted.start())}

  shutil.rmtree(folder / 'kept', ignore_errors=True)
  shutil.copytree(interrupted.workdir, folder / 'kept')
  result = harness.compare(
    f'first step, {case}',
    {'cold cache': cold, 'warm cache': warm, 'killed, started again, warm cache': killed},
    rounds=options.rounds,
    warmup=0,
    show=['seconds', 'cpu_seconds'],
  )
  harness.record(
    'start',
    result,
    notes=['Of the process, imports of JAX, TensorFlow and TFDS included.'],
    results=options.results,
  )


def main():
  """Measures all cases, or some."""
  parser = harness.parser(__doc__, rounds=2)
  parser.add_argument('--only', help='cases whose name contains this')
  options = parser.parse_args()
  from tests.stress.faults.runs import build_data

  with tempfile.TemporaryDirectory(prefix='luab_start_') as name:
    folder = pathlib.Path(name)
    data_dir, numbers = build_data(folder), itertools.count()
    for case, keys in CASES.items():
      if not options.only or options.only in case:
        measure(options, folder, data_dir, case, keys, numbers)
