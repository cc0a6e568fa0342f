"""What a run says of itself: metrics.jsonl, the writers' scalars, a progress bar.

A line of metrics.jsonl is a pure function of the run's configuration: it holds no times, so that
an interrupted run that was continued leaves the same file as an undisturbed one. Speed goes to
the writers and to the console.
"""

import collections
import contextlib
import errno
import json
import math
import os
import pathlib
import statistics
import sys
import time

import jax
import tqdm

from luab_jax.errors import UserError
from luab_jax.evaluate.metrics import mean_metrics
from luab_jax.runtime import hosts
from luab_jax.runtime.metric_writers import MetricWriters
from luab_jax.runtime.workdir import write_text


class RunLog:
  """Collects what the steps return and writes it once an interval, without stopping the device."""

  def __init__(
    self,
    workdir,
    *,
    log_every,
    total_steps,
    batch_size,
    image_size,
    start_step=0,
    drop_evaluation=False,
    partial=None,
    unwritten='',
    writers=None,
    quiet=False,
  ):
    """Opens the log for a run that starts (or continues) at `start_step`.

    Args:
      workdir: pathlib.Path; metrics.jsonl lies there.
      log_every: steps in one line.
      total_steps: for the progress bar.
      batch_size: global; for images/s.
      image_size: pixels, for the click error.
      start_step: lines beyond it are dropped from metrics.jsonl, they will be written again.
      drop_evaluation: so are the results of `start_step` itself, as its evaluation is repeated.
      partial: sums of the interval under way, from `partial_sums` of the run that is continued.
      unwritten: lines that had not got into metrics.jsonl, from `unwritten_lines` likewise.
      writers: MetricWriters that show the lines too; the caller closes them.
      quiet: says nothing, and its progress bar leaves no trace.

    Raises:
      UserError: metrics.jsonl cannot be written.
    """
    self._log_every = log_every
    self._batch_size = batch_size
    self._image_size = image_size
    self._sums = dict(partial or {})
    self._pending = []
    self._finite: collections.deque[str] = collections.deque(maxlen=3)  # the last losses
    self._main = hosts.is_main_host()
    self._clock = (time.perf_counter(), start_step)
    self._step_times = []  # seconds a step, one for each undisturbed interval of this start
    self._undisturbed = False  # the first interval compiles
    self._quiet = quiet
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._unwritten = ''  # lines for which there was no room yet
    self._writers = writers or MetricWriters()
    if self._main:
      _mend(self._path, start_step, drop_evaluation, unwritten)
    self.terminal = self._main and sys.stderr.isatty()
    self._bar = tqdm.tqdm(
      total=total_steps,
      initial=start_step,
      unit='step',
      disable=not self.terminal,
      dynamic_ncols=True,
      smoothing=0.1,
      leave=not quiet,
    )

  def add(self, step: int, metrics):
    """Takes one step's replicated device metrics; fetches those of a finished interval.

    The newest step is left on the device: by the time its successor was dispatched, the interval
    before it is done, so fetching does not make the device wait.

    Raises:
      UserError: a loss of the interval is not finite.
    """
    if self._pending and self._pending[-1][0] % self._log_every == 0:
      self.flush()
    self._pending.append((step, metrics))
    self._bar.update()

  def flush(self):
    """Waits for all steps so far and adds them up, writing a line for each finished interval."""
    steps, metrics = [s for s, _ in self._pending], [m for _, m in self._pending]
    self._pending = []
    local = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), metrics))
    for step, values in zip(steps, local, strict=True):
      values = {name: [float(total[0]), float(count[0])] for name, (total, count) in values.items()}
      loss, norm = values['loss'][0], values['grad_norm'][0]
      if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
          f'step {step}: the loss is {loss} and the gradient norm {norm}; the last finite losses '
          f'were {", ".join(self._finite) or "none"}. The run stops and the last good checkpoint '
          'stays. Try a lower --config.optimizer.learning_rate, --config.optimizer.grad_clip_norm=1'
          ' or --config.on_nan=skip'
        )
      if values['loss'][1]:
        self._finite.append(f'{loss:.4g} (step {step})')
      for name, (total, count) in values.items():
        before = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = [before[0] + total, before[1] + count]
      if step % self._log_every == 0:
        self._write_interval(step)

  def partial_sums(self) -> dict:
    """Sums of the interval under way (call `flush` first); belongs into the checkpoint."""
    return dict(self._sums)

  def unwritten_lines(self) -> str:
    """The lines for which there was no room so far; belong into the checkpoint."""
    return self._unwritten

  def ms_per_step(self) -> float | None:
    """Milliseconds a training step takes, data included: the median over this start's intervals.

    Intervals in which something was compiled or evaluated do not count. None with fewer than
    three: then nothing is known. Costs no wait for the device, as intervals are read when done.
    """
    times = self._step_times
    return round(1000 * statistics.median(times), 3) if len(times) >= 3 else None

  def _write_interval(self, step):
    line = mean_metrics(self._sums, image_size=self._image_size)
    if line.get('skipped') == 1:
      raise UserError(
        f'every one of the {self._log_every} steps up to {step} was skipped, as its loss was not '
        'finite: skipping does not help. Try a lower --config.optimizer.learning_rate'
      )
    self._sums = {}
    now = time.perf_counter()
    seconds = max(now - self._clock[0], 1e-9) / (step - self._clock[1])
    speed = self._batch_size / seconds
    self._clock = (now, step)
    if self._undisturbed:
      self._step_times.append(seconds)
    self._undisturbed = True
    self.write(step, 'train', line, images_per_s=speed)

  def write(self, step: int, split: str, figures: dict, **only_shown):
    """Writes one line {step, split, **figures}; `only_shown` goes to writers and console."""
    self._undisturbed &= split == 'train'
    if not self._main:
      return
    self._append(json.dumps({'step': step, 'split': split, **figures}) + '\n')
    self._writers.scalars(step, split, {**figures, **only_shown})
    text = _shown_text({**figures, **only_shown})
    if split == 'train' and self.terminal:
      self._bar.set_postfix_str(text)
    else:
      self.say(f'step {step} {split}: {text}')

  def _append(self, line):
    """Appends to metrics.jsonl, or keeps the line until it can: no run dies of its log."""
    waiting = bool(self._unwritten)
    self._unwritten += line
    try:
      with self._path.open('r+b', buffering=0) as file:  # not made anew if the folder has gone
        size, content = file.seek(0, 2), self._unwritten.encode()
        if file.write(content) < len(content):  # a disk that gets full takes what it can
          file.truncate(size)
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      self._unwritten = ''
    except OSError as error:
      if not waiting:
        self.say(
          f'{self._path} cannot be written ({error}); training goes on, its lines are kept '
          'in memory until they can'
        )

  def say(self, text: str):
    """Prints one line on the main host without breaking the progress bar."""
    if self._main and not self._quiet:
      with contextlib.suppress(OSError):  # stderr is often a file on the disk that is full
        tqdm.tqdm.write(text, file=sys.stderr)

  def close(self):
    """Closes the files; lines are on disk already."""
    self._bar.close()
    if self._unwritten:
      self._append('')
    if self._unwritten:
      self.say(f'{self._path} lacks the last lines: {len(self._unwritten.splitlines())}')


def read_lines(workdir) -> list[dict]:
  """All lines of a run's metrics.jsonl as dicts, oldest first; [] before the first.

  Raises UserError where the file is there and cannot be read.
  """
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  try:
    return _whole_lines(path.read_text(encoding='utf-8', errors='replace'))
  except FileNotFoundError:
    return []
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error}') from error


def all_results(workdir) -> dict:
  """{step: {report name: figures}} of the evaluations, as metrics.jsonl has them."""
  results: dict[int, dict] = {}
  for line in read_lines(workdir):
    if line['split'] != 'train':
      figures = {k: v for k, v in line.items() if k not in ('step', 'split')}
      results.setdefault(line['step'], {})[line['split']] = figures
  return results


def results_at(workdir, step: int) -> dict:
  """{report name: figures} of one step's evaluation; {} if there was none."""
  return all_results(workdir).get(step, {})


def replace_lines(workdir, step: int, results: dict):
  """Writes {split: figures} of a step into metrics.jsonl, in the place of what it said of them."""
  path = pathlib.Path(workdir) / 'metrics.jsonl'
  lines = [
    line for line in read_lines(workdir) if line['step'] != step or line['split'] not in results
  ]
  lines += [{'step': step, 'split': split, **figures} for split, figures in results.items()]
  _write(path, lines)


# What is worth a place on the console; metrics.jsonl holds everything.
_SHOWN = {
  'loss': '{:.3f}',
  'class_loss': '{:.3f}',
  'point_loss': '{:.4f}',
  'top1': '{:.3f}',
  'top5': '{:.3f}',
  'mAP': '{:.3f}',
  'click_error': '{:.3f}',
  'maxboxacc_v2_cam': '{:.3f}',
  'maxboxacc_v2_attention': '{:.3f}',
  'images_per_s': '{:.0f}',
}


def _shown_text(figures: dict) -> str:
  """The figures that matter, for people, for example 'loss 0.712, top1 0.812'."""
  return ', '.join(
    f'{name} {form.format(figures[name])}' for name, form in _SHOWN.items() if name in figures
  )


def _mend(path, start_step, drop_evaluation, unwritten):
  """Drops the lines of steps that will be run again and a half-written last one; adds `unwritten`.

  Raises UserError where the file cannot be read or written.
  """
  lines = read_lines(path.parent)
  known = {(line['step'], line['split']) for line in lines}
  # In file order: what was not written when the checkpoint was, came in whole or in part after.
  lines += [line for line in _whole_lines(unwritten) if (line['step'], line['split']) not in known]
  _write(
    path,
    [
      line
      for line in lines
      if line['step'] < start_step
      or (line['step'] == start_step and (line['split'] == 'train' or not drop_evaluation))
    ],
  )


def _whole_lines(text):
  """The lines as dicts, up to one that was cut off when the process was killed."""
  lines = []
  for line in text.splitlines():
    try:
      content = json.loads(line)
      lines.append({'step': content['step'], 'split': content['split'], **content})
    except (json.JSONDecodeError, KeyError, TypeError):
      break
  return lines


def _write(path, lines):
  write_text(path, ''.join(json.dumps(line) + '\n' for line in lines))
