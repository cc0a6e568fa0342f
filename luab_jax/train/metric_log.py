"""The log of a run: metrics.jsonl, the scalars of the metric writers, a progress bar.

A line of metrics.jsonl is a pure function of the run's config: it contains no times, so that an
interrupted and resumed run leaves the same file as an uninterrupted one. Speed goes only to the
metric writers and the console.
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
from collections.abc import Iterator
from typing import Any

import jax
import tqdm
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.evaluate.metrics import mean_metrics
from luab_jax.models.losses import Sums
from luab_jax.runtime import hosts
from luab_jax.runtime.metric_writers import MetricWriters
from luab_jax.train import metrics_file
from luab_jax.train.metrics_file import Metrics


class RunLog:
  """Collects what the steps return and logs it once per interval, without stalling the device."""

  def __init__(
    self,
    workdir: str | os.PathLike,
    config: ConfigDict,
    *,
    total_steps: int,
    num_examples: int,
    start_step: int = 0,
    drop_evaluation: bool = False,
    metadata: dict[str, Any] | None = None,
    writers: MetricWriters | None = None,
    verbose: bool = True,
  ):
    """Opens the log for a run that starts (or continues) at `start_step`.

    Args:
      workdir: folder of the run, with metrics.jsonl.
      config: of the run; log_every, batch_size and data.image_size are read.
      total_steps, num_examples: training steps and examples, to report progress and epochs.
      start_step: lines of later steps are dropped from metrics.jsonl; they will be written again.
      drop_evaluation: also drop the results of `start_step`, because its evaluation is repeated.
      metadata: of the checkpoint that is resumed: `partial_sums` and `unwritten_lines`.
      writers: MetricWriters that also get the metrics; the caller closes them.
      verbose: False: no messages, and a progress bar that is removed at the end.

    Raises:
      UserError: metrics.jsonl cannot be written.
    """
    metadata = metadata or {}
    self._log_every = config.log_every
    self._batch_size = config.batch_size
    self._image_size = config.data.image_size
    self._sums: dict[str, Any] = dict(metadata.get('partial_sums', {}))  # of the current interval
    self._pending: list[tuple[int, Sums]] = []  # on the device
    self._last_losses: collections.deque[str] = collections.deque(maxlen=3)
    self._main = hosts.is_main_host()
    self._total_steps, self._start_step = total_steps, start_step
    self._num_examples = num_examples
    self._began = self._compiled = time.perf_counter()
    self._clock = (self._began, start_step)  # start of the interval, shifted by excluded time
    self._step_times: list[float] = []  # seconds per step, one for each interval
    self._compiling = False
    self._verbose = verbose
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._unwritten = ''  # lines that could not be written yet
    self._writers = writers or MetricWriters()
    if self._main:
      unwritten = metadata.get('unwritten_lines', '')
      metrics_file.repair(self._path, start_step, drop_evaluation, unwritten)
    self.on_terminal = self._main and sys.stderr.isatty()
    self._bar = _progress_bar(total_steps, start_step, shown=self.on_terminal, leave=verbose)

  def compiling(self) -> None:
    """Shows that the step is being compiled, until the next `add`."""
    self._compiling = True
    if self.on_terminal:
      self._bar.set_postfix_str('compiling (once)')
    else:
      self.message('compiling (once)')

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Flushes, and excludes the time spent inside from images/s."""
    self.flush()
    paused_at = time.perf_counter()
    yield
    self._leave_out(paused_at)

  def _leave_out(self, since: float) -> None:
    seconds = time.perf_counter() - since
    self._clock = (self._clock[0] + seconds, self._clock[1])
    if self.on_terminal:
      self._bar.last_print_t += seconds  # tqdm derives the rate and the remaining time from it

  def add(self, step: int, sums: Sums) -> None:
    """Takes the replicated sums of one step; fetches those of a finished interval.

    An interval is fetched only after the step that follows it has been dispatched, so fetching does
    not keep the device waiting.

    Raises:
      UserError: a loss of the interval is not finite.
    """
    if self._compiling:
      self._compiling = False
      self._leave_out(self._clock[0])
      self._compiled = time.perf_counter()
      self._bar.set_postfix_str('')
    if self._pending and self._pending[-1][0] % self._log_every == 0:
      self.flush()
    self._pending.append((step, sums))
    self._bar.update()

  def flush(self) -> None:
    """Waits for all steps so far and adds them up, writing a line for each finished interval.

    Raises:
      UserError: a loss or gradient norm is not finite.
    """
    steps, pending = [step for step, _ in self._pending], [sums for _, sums in self._pending]
    self._pending = []
    local = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), pending))
    for step, sums in zip(steps, local, strict=True):
      values = {name: [float(total[0]), float(count[0])] for name, (total, count) in sums.items()}
      loss, norm = values['loss'][0], values['grad_norm'][0]
      if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
          f'step {step}: the loss is {loss} and the gradient norm {norm}; the last finite losses '
          f'were {", ".join(self._last_losses) or "none"}. The run stops and the last good '
          'checkpoint is kept. Try a lower --config.optimizer.learning_rate, '
          '--config.optimizer.grad_clip_norm=1 or --config.on_nan=skip'
        )
      if values['loss'][1]:
        self._last_losses.append(f'{loss:.4g} (step {step})')
      for name, (total, count) in values.items():
        before = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = [before[0] + total, before[1] + count]
      if step % self._log_every == 0:
        self._write_interval(step)

  def partial_sums(self) -> dict:
    """Sums of the current interval (call `flush` first), for the checkpoint."""
    return dict(self._sums)

  def unwritten_lines(self) -> str:
    """The lines that could not be written yet, for the checkpoint."""
    return self._unwritten

  def ms_per_step(self) -> float | None:
    """Milliseconds per training step, including data loading: the median over the intervals.

    Compilation and evaluations are excluded. None with fewer than three intervals.
    """
    times = self._step_times
    return round(1000 * statistics.median(times), 3) if len(times) >= 3 else None

  def _write_interval(self, step: int) -> None:
    metrics = mean_metrics(self._sums, image_size=self._image_size)
    if metrics.get('skipped') == 1:
      raise UserError(
        f'all {self._log_every} steps up to step {step} were skipped because their loss was not '
        'finite: skipping does not help. Try a lower --config.optimizer.learning_rate'
      )
    self._sums = {}
    now = time.perf_counter()
    seconds = max(now - self._clock[0], 1e-9) / (step - self._clock[1])
    speed = self._batch_size / seconds
    self._clock = (now, step)
    self._step_times.append(seconds)
    self.write(step, 'train', metrics, images_per_s=speed)

  def write(self, step: int, split: str, metrics: Metrics, **speed: float) -> None:
    """Writes one line {step, split, **metrics}; `speed` goes only to the writers and console."""
    if not self._main:
      return
    self._append(json.dumps({'step': step, 'split': split, **metrics}) + '\n')
    self._writers.scalars(step, split, metrics | speed)
    text = _describe(metrics | speed)
    if not self.on_terminal:
      self.message(f'step {step} {split}: {text}, {self._progress(step)}')
    elif split == 'train':
      self._bar.set_postfix_str(self._fitting(text))
    else:
      self.message(f'step {step} {split}: {text}')

  def _progress(self, step: int) -> str:
    """Epoch, and wall-clock time of this start: 'epoch 1.5 of 12.0, 00:40 elapsed, 04:35 left'."""
    now, steps = time.perf_counter(), step - self._start_step
    epoch, epochs = (n * self._batch_size / self._num_examples for n in (step, self._total_steps))
    times = {'elapsed': now - self._began}
    if steps:
      times['left'] = (now - self._compiled) / steps * (self._total_steps - step)
    return ', '.join(
      [f'epoch {epoch:.1f} of {epochs:.1f}']
      + [f'{tqdm.tqdm.format_interval(seconds)} {name}' for name, seconds in times.items()]
    )

  def _fitting(self, text: str) -> str:
    """As many metrics as fit beside the bar: tqdm would cut a number in half."""
    shape = self._bar.format_dict
    bar = self._bar.format_meter(**{**shape, 'ncols': None, 'postfix': ', '})
    room = (shape['ncols'] or 80) - len(bar)
    return text if len(text) <= room else text[: max(room, 0)].rpartition(', ')[0]

  def _append(self, line: str) -> None:
    """Appends to metrics.jsonl, or keeps the line for later: the log must not end the run."""
    waiting = bool(self._unwritten)
    self._unwritten += line
    try:
      with self._path.open('r+b', buffering=0) as file:  # does not recreate a deleted file
        size, content = file.seek(0, 2), self._unwritten.encode()
        if file.write(content) < len(content):  # a disk that fills up takes a part of it
          file.truncate(size)
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      self._unwritten = ''
    except OSError as error:
      if not waiting:
        self.message(
          f'{self._path} cannot be written ({error}); training continues, and the lines are kept '
          'in memory until they can be written'
        )

  def message(self, text: str) -> None:
    """Prints one line on the main host without breaking the progress bar."""
    if self._main and self._verbose:
      with contextlib.suppress(OSError):  # stderr is often a file on the disk that is full
        tqdm.tqdm.write(text, file=sys.stderr)

  def close(self) -> None:
    """Closes the progress bar, and tries once more to write lines that could not be written."""
    self._bar.close()
    if self._unwritten:
      self._append('')
    if self._unwritten:
      self.message(f'{self._path}: lines missing at the end: {len(self._unwritten.splitlines())}')


def _progress_bar(total: int, initial: int, *, shown: bool, leave: bool) -> tqdm.tqdm:
  return tqdm.tqdm(
    total=total,
    initial=initial,
    disable=not shown,
    dynamic_ncols=True,
    smoothing=0.1,
    bar_format='{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}',
    leave=leave,
  )


# What the console shows; metrics.jsonl holds everything.
_CONSOLE_FORMATS = {
  'images_per_s': '{:.0f} images/s',
  'loss': 'loss {:.3f}',
  'class_loss': 'class_loss {:.3f}',
  'point_loss': 'point_loss {:.4f}',
  'map_loss': 'map_loss {:.3f}',
  'top1': 'top1 {:.3f}',
  'top5': 'top5 {:.3f}',
  'mAP': 'mAP {:.3f}',
  'click_error': 'click_error {:.3f}',
  'click_error_centre': 'click_error_centre {:.3f}',
  'click_error_mean': 'click_error_mean {:.3f}',
  'maxboxacc_v2_cam': 'maxboxacc_v2_cam {:.3f}',
  'maxboxacc_v2_attention': 'maxboxacc_v2_attention {:.3f}',
}


def _describe(metrics: Metrics) -> str:
  """The main metrics, such as 'loss 0.712, top1 0.812'."""
  return ', '.join(
    text.format(metrics[name]) for name, text in _CONSOLE_FORMATS.items() if name in metrics
  )
