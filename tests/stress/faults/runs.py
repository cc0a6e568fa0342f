"""Starts, watches, restarts and compares runs: what the cases share.

Everything is observed from outside, as by a user: the processes of run.py, their output, and the
files in their folder.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
_IMAGES = 256  # for training
HANGS = 600  # seconds after which a process counts as hanging; the machine may be busy

# Lines, evaluations and checkpoints mostly fall on different steps, so most saves are mid-interval.
_SHORT = {
  'batch_size': 32,
  'total_steps': 120,
  'log_every': 4,
  'checkpoint_every_steps': 7,
  'eval_every_epochs': 2.5,
  'report_images': 1,
  'keep_best': 'uncorrelated/top1',
  'keep_every_steps': 49,
  'data.train_split': 'train',
  'data.image_size': 32,
  'data.eval_resize': 32,
  'data.shuffle_buffer': 64,
  'optimizer.ema_decay': 0.99,
}


def build_data(folder, train=_IMAGES, validation=40):
  """Generates and builds a small synthetic ImageNet-AB; returns its data_dir."""
  from absl import logging

  logging.set_verbosity(logging.ERROR)  # TFDS warns about its own deprecated calls
  import tensorflow_datasets as tfds

  from luab_jax.tools.synthetic import __main__ as synthetic
  from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

  tfds.disable_progress_bar()
  release = folder / 'release'
  synthetic.main(
    [
      '--release=imagenet_ab',
      f'--out={release}',
      f'--train={train}',
      f'--validation={validation}',
      '--size=32',
    ]
  )
  builder = imagenet_ab_dataset_builder.Builder(config='local', data_dir=str(folder / 'built'))
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=str(release))
  )
  return folder / 'built'


class Run:
  """One run: its folder, and the command that is started until the run has ended.

  Attributes:
    workdir: pathlib.Path, the --workdir of run.py.
    keys: {key of the config: value} where it differs from configs/quickstart.py.
    steps: number of training steps.
    eval_steps: the steps after which it is evaluated.
  """

  def __init__(self, folder, name, data_dir, *, devices=1, workdir=None, **changes):
    """`folder`: for the output of the processes; `changes`: of the config."""
    self.keys = keys = {**_SHORT, **changes, 'data.data_dir': str(data_dir)}
    self._folder, self._name, self._starts = folder, name, 0
    self.workdir = workdir or folder / name
    self._devices = devices
    self.steps = keys['total_steps']
    every = round(keys['eval_every_epochs'] * _IMAGES / keys['batch_size'])
    self.eval_steps = [*range(every, self.steps, every), self.steps]
    self.command = [
      sys.executable,
      'run.py',
      '--config=configs/quickstart.py',
      f'--workdir={self.workdir}',
      *(f'--config.{key}={value}' for key, value in keys.items()),
    ]

  def start(self, *, devices=None, **environment):
    """Starts the command and returns a Start; `environment`: further variables."""
    self._starts += 1
    log = self._folder / f'{self._name}.start{self._starts}.txt'
    env = {
      'JAX_COMPILATION_CACHE_DIR': str(self._folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(devices or self._devices),
      'TF_CPP_MIN_LOG_LEVEL': '2',
      **environment,
    }
    with log.open('wb') as file:
      process = subprocess.Popen(self.command, cwd=ROOT, env=env, stdout=file, stderr=file)
    return Start(self, process, log)

  def finish(self, **options):
    """Starts the command and waits for it to end; Violation if it fails."""
    start = self.start(**options)
    status = start.wait()
    if status:
      raise Violation(f'{self._name}: exit status {status}: {start.last_line()}')
    start.check_output()
    return start

  def lines(self):
    """The lines of metrics.jsonl, parsed; stops at an incomplete one."""
    lines = []
    path = self.workdir / 'metrics.jsonl'
    try:
      text = path.read_text(encoding='utf-8', errors='replace')
    except OSError:
      return []
    for line in text.splitlines():
      try:
        lines.append(json.loads(line))
      except json.JSONDecodeError:
        break
    return lines

  def saving(self):
    """Names of the folders of saves that are in progress or were cut off by a kill."""
    return {name for name in self._checkpoint_names() if 'checkpoint-tmp' in name}

  def saved_steps(self):
    """The steps with a complete checkpoint, ascending."""
    return sorted(int(name) for name in self._checkpoint_names() if name.isdigit())

  def _checkpoint_names(self):
    try:
      return [path.name for path in (self.workdir / 'checkpoints').iterdir()]
    except OSError:  # the folder does not exist yet, or no longer
      return []


class Start:
  """One process of a run."""

  def __init__(self, run, process, log):
    self.run, self.process, self.began = run, process, time.monotonic()
    self._log = log

  def output(self):
    """What the process has printed so far."""
    return self._log.read_text(encoding='utf-8', errors='replace')

  def last_line(self):
    return (self.output().strip().splitlines() or ['(no output)'])[-1][:500]

  def ended(self):
    return self.process.poll() is not None

  def wait(self, seconds=HANGS):
    """The exit status (128 + signal, as in a shell); Violation if it does not end in time."""
    try:
      status = self.process.wait(seconds)
    except subprocess.TimeoutExpired as error:
      self.kill()
      raise Violation(f'did not end within {seconds} s; last output: {self.last_line()}') from error
    return 128 - status if status < 0 else status

  def kill(self):
    self.process.kill()
    self.process.wait()

  def first_step(self):
    """The step the process starts from, or None before it says so."""
    found = re.search(r' head on \S+ (?:starts:|continues at step (\d+) of)', self.output())
    return found and int(found[1] or 0)

  def phase(self):
    """The phase the process is in, or was in when it was killed."""
    first = self.first_step()
    if first is None:
      return 'start-up'
    lines = self.run.lines()
    evaluated = {line['split'] for line in lines if line['step'] == self.run.steps} - {'train'}
    if len(evaluated) == 3:
      return 'end'
    if self.run.saving():
      return 'save'
    last = lines[-1] if lines else {'step': 0, 'split': ''}
    if last['step'] in self.run.eval_steps:
      splits = {line['split'] for line in lines if line['step'] == last['step']} - {'train'}
      if len(splits) < 3:
        return 'evaluation'
    return 'first steps' if last['step'] <= first else 'training'

  def wait_until(self, seen):
    """Waits until `seen()` is true; False if the process ended."""
    while not seen():
      if self.ended():
        return False
      if time.monotonic() - self.began > HANGS:
        self.kill()
        raise Violation(f'hung for {HANGS} s; last output: {self.last_line()}')
      time.sleep(0.003)
    return not self.ended()

  def check_output(self, lines=None):
    """Violation if the output has a traceback, or not exactly `lines` lines of run.py itself."""
    output = self.output()
    if 'Traceback' in output:
      raise Violation(f'a traceback reached the user, see {self._log}: {self.last_line()}')
    if 'moved to damaged' in output:
      raise Violation(f'a checkpoint was damaged, see {self._log}')
    count = sum(line.startswith('run.py: ') for line in output.splitlines())
    if lines is not None and count != lines:
      raise Violation(f'{count} instead of {lines} lines of run.py, see {self._log}')


class Violation(Exception):
  """A promise of the documentation was broken."""


class NotRun(Exception):
  """The fault cannot be produced on this machine."""


def read_arrays(run, step):
  """{path: array} of everything in a run's checkpoint of a step."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  folder = run.workdir.resolve() / 'checkpoints' / str(step) / 'state'
  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.restore(folder)
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf)
    for path, leaf in leaves
  }


def compare(run, undisturbed):
  """Raises Violation unless two runs ended with the same bits and left the same files."""
  import numpy as np

  found, wanted = ((r.workdir / 'metrics.jsonl').read_bytes() for r in (run, undisturbed))
  if found != wanted:
    pairs = enumerate(zip(found.splitlines(), wanted.splitlines(), strict=False), 1)
    at = next((n for n, (a, b) in pairs if a != b), 'the end')
    raise Violation(f'{run.workdir}/metrics.jsonl differs from the undisturbed one in line {at}')
  # A start that ended during its last save may have left one checkpoint too many.
  if not set(undisturbed.saved_steps()) <= set(run.saved_steps()):
    raise Violation(
      f'{run.workdir} keeps the checkpoints {run.saved_steps()} instead of '
      f'{undisturbed.saved_steps()}'
    )
  for step in undisturbed.saved_steps():
    arrays, expected = read_arrays(run, step), read_arrays(undisturbed, step)
    differing = [
      name
      for name in arrays.keys() | expected.keys()
      if not (
        name in arrays
        and name in expected
        and arrays[name].dtype == expected[name].dtype
        and np.array_equal(arrays[name], expected[name])
      )
    ]
    if differing:
      raise Violation(
        f'step {step} of {run.workdir}: {len(differing)} of {len(expected)} arrays '
        f'differ, the first is {min(differing)}'
      )
  results = [
    json.loads((r.workdir / 'summary.json').read_text())['results'] for r in (run, undisturbed)
  ]
  if results[0] != results[1]:
    raise Violation(f'{run.workdir}/summary.json has other results')
  left = {
    path.name for path in run.workdir.rglob('*') if path.suffix == '.tmp' or path.name == 'damaged'
  }
  if left | run.saving():
    raise Violation(f'{run.workdir} was left with {left | run.saving()}')


def scratch_folder():
  """A new folder for a bench's files."""
  return pathlib.Path(tempfile.mkdtemp(prefix='luab_faults_'))
