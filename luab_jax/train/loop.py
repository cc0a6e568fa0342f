"""The training run, top to bottom: data, model, steps, evaluation, checkpoints, summary."""

import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from luab_jax.data.dataset import Batch
from luab_jax.errors import UserError
from luab_jax.evaluate import outcomes
from luab_jax.evaluate.evidence import caveat
from luab_jax.models import map_losses
from luab_jax.runtime import hosts, lock, parallel
from luab_jax.runtime.checkpoint import Checkpoints
from luab_jax.runtime.metric_writers import MetricWriters, open_metric_writers
from luab_jax.runtime.preemption import Preempted, StopRequest
from luab_jax.runtime.profile import Profile
from luab_jax.runtime.workdir import locked, prepare_workdir
from luab_jax.train import metric_log, metrics_file
from luab_jax.train.batches import DrawBatch, drawing_first, train_batches
from luab_jax.train.experiment import EvaluationCancelled, Experiment, Results
from luab_jax.train.state import TrainState, check_finite
from luab_jax.train.summary import describe, write_summary


class Run(NamedTuple):
  """A run that was trained or evaluated.

  Attributes:
    experiment: its config and everything built from it.
    state: the state that was evaluated last, as numpy arrays.
    summary: the contents of summary.json.
  """

  experiment: Experiment
  state: TrainState
  summary: dict[str, Any]


# Draws the report, also for the metric writers, which are still open; returns its path.
DrawReport = Callable[[Run, pathlib.Path, MetricWriters], pathlib.Path | None]


def train_and_evaluate(
  config: ConfigDict,
  workdir: str | os.PathLike,
  *,
  verbose: bool = True,
  draw_batch: DrawBatch | None = None,
  draw_report: DrawReport | None = None,
) -> Run:
  """Trains (or resumes) a run, evaluates it and writes its files.

  Args:
    config: of the experiment; configs/default.py lists all keys.
    workdir: folder; gets config.json, metrics.jsonl, summary.json, outcomes.npz, tensorboard/,
      checkpoints/.
    verbose: False for one of many runs: no messages, and a progress bar that is removed at the end.
    draw_batch: draws images of the first batch for the metric writers.
    draw_report: draws the report of the finished run.
  Raises:
    UserError: an invalid config, missing data, a workdir that is in use or belongs to another run,
      a loss that is not finite.
    Preempted: SIGTERM or SIGINT was received; the state is saved.
  """
  workdir = pathlib.Path(workdir)
  experiment = Experiment(config)
  with locked(workdir):
    prepare_workdir(workdir, config)
    with open_metric_writers(workdir, config, verbose=verbose) as writers:
      run = _train_and_evaluate(experiment, workdir, writers, verbose, draw_batch)
      writers.finish(run.summary, draw_report(run, workdir, writers) if draw_report else None)
  return run


def _train_and_evaluate(
  experiment: Experiment,
  workdir: pathlib.Path,
  writers: MetricWriters,
  verbose: bool,
  draw_batch: DrawBatch | None,
) -> Run:
  config = experiment.config
  checkpoints = open_checkpoints(workdir, config)
  state, metadata = experiment.init_or_restore(checkpoints)
  notices = map_losses.notices(config.loss) + experiment.check_continues(metadata)
  start = int(state.step)
  # A run may have been stopped between the step and the end of its evaluation.
  missing = experiment.split_names(start) - metrics_file.results_at(workdir, start).keys()
  pending = hosts.agree(start > 0 and experiment.is_evaluated_at(start) and bool(missing))
  log = metric_log.RunLog(
    workdir,
    config,
    total_steps=experiment.total_steps,
    num_examples=experiment.num_examples,
    start_step=start,
    drop_evaluation=pending,
    metadata=metadata,
    writers=writers,
    verbose=verbose,
  )
  log.message(describe(experiment, start))
  if verbose and (line := caveat(config.loss, experiment.splits)):
    log.message(line)
  for line in notices + experiment.loaded:
    log.message(line)
  for name, remedy in experiment.robustness.missing.items():
    log.message(f'robustness.sets: {name} is not prepared: {remedy}')
  batches = train_batches(experiment, start, log)
  if not start and draw_batch:
    batches = drawing_first(batches, experiment.spec, writers, draw_batch)
  started = time.time()
  with StopRequest(config.preemption_grace_seconds) as stop:
    try:
      with hosts.exit_on_process_loss():
        loop = _Loop(experiment, workdir, state, checkpoints, log, stop)
        with Profile(workdir, config.profile_steps) as profile:
          results = loop.run(start, batches, profile, evaluate_first=pending)
        state = parallel.fetch(loop.state)
    finally:
      log.close()
      with hosts.exit_on_process_loss():
        checkpoints.close()  # waits for saves in progress
  summary = write_summary(
    experiment,
    workdir,
    experiment.total_steps,
    results or metrics_file.results_at(workdir, experiment.total_steps),
    seconds=time.time() - started,
    steps=experiment.total_steps - start,
    ms_per_step=log.ms_per_step(),
  )
  return Run(experiment, state, summary)


class _Loop:
  """The training loop. It waits for the device only to log, to evaluate and to save.

  Attributes:
    state: replicated TrainState.
  """

  def __init__(
    self,
    experiment: Experiment,
    workdir: pathlib.Path,
    state: TrainState,
    checkpoints: Checkpoints,
    log: metric_log.RunLog,
    stop: StopRequest,
  ):
    self.state = parallel.replicate(state)
    self._experiment = experiment
    self._workdir = workdir
    self._checkpoints = checkpoints
    self._log = log
    self._stop = stop
    self._train_step = parallel.map_step(experiment.train_step, donate_state=True)
    self._eval_step = parallel.map_step(experiment.eval_step)

  def run(
    self, start: int, batches: Iterable[Batch], profile: Profile, *, evaluate_first: bool = False
  ) -> Results | None:
    """Trains from step `start` to the end.

    Inside a step, JAX raises an error on implicit copies between host and device.

    Args:
      start: number of steps already done.
      batches: host batches from step `start` on.
      profile: traces some of the steps.
      evaluate_first: an earlier start was interrupted during the evaluation after step `start`.
    Returns:
      The results of the last evaluation; None if an earlier start has already written them.
    Raises:
      Preempted: a signal was received; the state is saved.
    """
    total_steps = self._experiment.total_steps
    results = self._evaluate(start) if evaluate_first else None
    if evaluate_first and results is None:
      raise Preempted(start, total_steps)
    sharded = parallel.prefetch(iter(batches))
    self._log.compiling()
    for step in profile.steps(range(start + 1, total_steps + 1), lambda: self.state):
      with jax.transfer_guard('disallow'):
        self.state, sums = self._train_step(self.state, next(sharded))
        self._log.add(step, sums)
      stopping, results = self._stop.at(step), None
      if step == total_steps:
        self._save(step)  # before the final evaluation, which may be the longest
      if self._experiment.is_evaluated_at(step) and not stopping:
        results = self._evaluate(step)
        stopping = results is None
      if stopping or self._checkpoints.is_due(step):
        self._save(step)
      if stopping:
        raise Preempted(step, total_steps)
    return results

  def _evaluate(self, step: int) -> Results | None:
    """Evaluates, writes the results and returns them; None if a signal was received."""
    final = step == self._experiment.total_steps
    try:
      with self._log.paused():
        results = self._experiment.evaluate(
          self._eval_step,
          self.state,
          show_progress=self._log.on_terminal,
          final=final,
          cancelled=self._stop.now,
        )
    except EvaluationCancelled:
      return None
    if final:  # before the lines of metrics.jsonl, which mark the evaluation as done
      outcomes.write(self._workdir, self._experiment.outcomes)
    for split, metrics in results.items():
      self._log.write(step, split, metrics)
    self._checkpoints.rate(step, results)
    return results

  def _save(self, step: int) -> None:
    self._log.flush()  # raises if a loss is not finite, before anything is saved
    state = parallel.fetch(self.state)
    check_finite(step, state)
    self._checkpoints.save(step, state, self._experiment.metadata(step, self._log))


def open_checkpoints(
  workdir: pathlib.Path, config: ConfigDict, *, read_only: bool = False
) -> Checkpoints:
  """Opens the run's checkpoints with the retention settings of the config."""
  return Checkpoints(
    workdir / 'checkpoints',
    keep=config.keep_checkpoints,
    save_every=config.checkpoint_every_steps,
    keep_every=config.keep_every_steps,
    best=config.keep_best,
    results=metrics_file.all_results(workdir),
    read_only=read_only,
  )


def evaluate_only(
  config: ConfigDict,
  workdir: str | os.PathLike,
  *,
  verbose: bool = True,
  draw_report: DrawReport | None = None,
) -> Run:
  """Evaluates the newest checkpoint of a run on `config.data.eval_splits` and the robustness sets.

  Writes summary.json and, unless the run is being trained by a process that writes them itself,
  outcomes.npz and metrics.jsonl, where the new lines replace those of the same step.
  Arguments as in `train_and_evaluate`. Raises UserError if there is no checkpoint.
  """
  workdir = pathlib.Path(workdir)
  experiment = Experiment(config)
  if not (workdir / 'checkpoints').is_dir():
    raise UserError(f'{workdir} holds no run to evaluate: train first, with --mode=train')
  prepare_workdir(workdir, config)
  checkpoints = open_checkpoints(workdir, config, read_only=True)
  state, _ = experiment.init_or_restore(checkpoints)
  checkpoints.close()
  step = int(state.step)
  experiment.check_steps(step)
  if not step:
    raise UserError(f'{workdir} holds no checkpoint yet: train first, with --mode=train')
  started = time.time()
  results = experiment.evaluate(
    parallel.map_step(experiment.eval_step),
    parallel.replicate(state),
    show_progress=sys.stderr.isatty(),
    final=True,
  )
  if hosts.is_main_host() and not lock.is_held(workdir):
    outcomes.write(workdir, experiment.outcomes)
    metrics_file.replace_lines(workdir, step, results)
  summary = write_summary(
    experiment, workdir, step, results, seconds=time.time() - started, steps=0
  )
  run = Run(experiment, state, summary)
  with open_metric_writers(workdir, config, verbose=verbose) as writers:
    for split, metrics in results.items():
      writers.scalars(step, split, metrics)
    writers.finish(summary, draw_report(run, workdir, writers) if draw_report else None)
  return run
