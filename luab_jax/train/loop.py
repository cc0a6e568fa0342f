"""The training run, top to bottom: data, model, steps, evaluation, checkpoints, summary."""

import pathlib
import sys
import time
import traceback

import jax
import numpy as np

from luab_jax.data import pipeline
from luab_jax.errors import UserError
from luab_jax.report import data_page, report
from luab_jax.runtime import hosts, parallel
from luab_jax.runtime.checkpoint import Checkpoints
from luab_jax.runtime.metric_writers import open_metric_writers
from luab_jax.runtime.preemption import Preempted, StopRequest
from luab_jax.runtime.workdir import prepare_workdir
from luab_jax.train import metric_log
from luab_jax.train.experiment import Experiment, Interrupted
from luab_jax.train.state import check_finite


def train_and_evaluate(config, workdir, *, quiet=False) -> dict:
  """Trains (or continues) a run, evaluates it and writes its files.

  Args:
    config: ml_collections.ConfigDict, see configs/default.py for all keys.
    workdir: folder; gets config.json, metrics.jsonl, summary.json, report.html, tensorboard/,
      checkpoints/.
    quiet: one of many runs: prints nothing but a progress bar that goes away.
  Returns:
    What summary.json holds.
  Raises:
    UserError: bad config, missing data, a workdir of another run, a loss that is not finite.
    Preempted: SIGTERM or SIGINT came; the state is saved.
  """
  workdir = pathlib.Path(workdir)
  run = Experiment(config)
  prepare_workdir(workdir, config)
  with open_metric_writers(workdir, config, verbose=not quiet) as writers:
    return _train_and_evaluate(run, workdir, writers, quiet)


def _train_and_evaluate(run, workdir, writers, quiet):
  config = run.config
  checkpoints = open_checkpoints(workdir, config)
  state, metadata = run.init_or_restore(checkpoints)
  run.check_records(metadata)
  start = int(state.step)
  # A run may have been stopped between the step and the end of its evaluation.
  missing = run.report_names(start) - metric_log.results_at(workdir, start).keys()
  pending = hosts.agree(start > 0 and run.is_evaluated_at(start) and bool(missing))
  log = metric_log.RunLog(
    workdir,
    log_every=config.log_every,
    total_steps=run.total_steps,
    batch_size=config.batch_size,
    image_size=config.data.image_size,
    start_step=start,
    drop_evaluation=pending,
    partial=metadata.get('partial_sums'),
    unwritten=metadata.get('unwritten_lines', ''),
    writers=writers,
    quiet=quiet,
  )
  log.say(run.describe(state, start))
  for line in run.loaded:
    log.say(line)
  for name, what in run.robustness.missing.items():
    log.say(f'robustness.sets: {name} is not prepared: {what}')
  started = time.time()
  with StopRequest(config.preemption_grace_seconds) as stop:
    try:
      with hosts.exit_on_process_loss():
        state, results = _train(run, state, start, pending, checkpoints, log, writers, stop)
    finally:
      log.close()
      with hosts.exit_on_process_loss():
        checkpoints.close()  # waits for what is being saved
  summary = run.summary(
    workdir,
    run.total_steps,
    results or metric_log.results_at(workdir, run.total_steps),
    seconds=time.time() - started,
    steps=run.total_steps - start,
    ms_per_step=log.ms_per_step(),
  )
  _close_with_report(run, state, workdir, summary, writers, quiet)
  return summary


def _train(run, state, start, pending, checkpoints, log, writers, stop):
  """The loop. Nothing in it waits for the device but logging, evaluation and checkpoints.

  JAX refuses to copy anything between host and device there that was not asked for by name.

  Returns the state at the end as numpy arrays, and the results of the last evaluation: None if it
  was done by an earlier start. Raises Preempted once a signal was obeyed.
  """
  config = run.config
  state = parallel.replicate(state)
  train_step = parallel.pmap_step(run.train_step, donate_state=True)
  eval_step = parallel.pmap_step(run.eval_step)

  def evaluate(step):
    """Writes the figures of this step; returns them, or None if a signal came."""
    log.flush()
    try:
      results = run.evaluate(
        eval_step, state, bar=log.terminal, whole=step == run.total_steps, interrupted=stop.now
      )
    except Interrupted:
      return None
    for name, figures in results.items():
      log.write(step, name, figures)
    checkpoints.rate(step, results)
    return results

  def save(step):
    log.flush()  # a loss that is not finite stops the run here, before it could be saved
    fetched = parallel.fetch(state)
    check_finite(step, fetched)
    checkpoints.save(step, fetched, run.metadata(step, log))

  results = evaluate(start) if pending else None
  if pending and results is None:
    raise Preempted(start, run.total_steps)
  batches = pipeline.train_batches(
    config.data,
    seed=config.seed,
    batch_size=config.batch_size,
    start_step=start,
    num_hosts=jax.process_count(),
    host=jax.process_index(),
  ).as_numpy_iterator()
  if not start:
    batches = _showing_first(batches, run.spec, writers)
  batches = parallel.prefetch(batches)
  for step in range(start + 1, run.total_steps + 1):
    with jax.transfer_guard('disallow'):
      state, sums = train_step(state, next(batches))
      log.add(step, sums)
    stopping, results = stop.at(step), None
    if step == run.total_steps:
      save(step)  # first: its evaluation may be the longest one
    if run.is_evaluated_at(step) and not stopping:
      results = evaluate(step)
      stopping = results is None
    if stopping or checkpoints.is_due(step):
      save(step)
    if stopping:
      raise Preempted(step, run.total_steps)
  return parallel.fetch(state), results


def _showing_first(batches, spec, writers):
  """The same batches; the writers show some images of the first one."""
  for number, batch in enumerate(batches):
    if not number:
      shown = data_page.first_images(batch, spec, writers.num_images)
      writers.images(0, 'training', shown)
    yield batch


def open_checkpoints(workdir, config):
  """The run's checkpoints, kept as the config says."""
  return Checkpoints(
    workdir / 'checkpoints',
    keep=config.keep_checkpoints,
    save_every=config.checkpoint_every_steps,
    keep_every=config.keep_every_steps,
    best=config.keep_best,
    results=metric_log.all_results(workdir),
  )


def evaluate_only(config, workdir, *, quiet=False) -> dict:
  """Evaluates the newest checkpoint of a run on `config.data.eval_splits` and the robustness sets.

  Writes summary.json, report.html and the lines of metrics.jsonl, where they replace those of the
  same step, and returns what the first holds. Raises UserError without a checkpoint.
  """
  workdir = pathlib.Path(workdir)
  run = Experiment(config)
  if not (workdir / 'checkpoints').is_dir():
    raise UserError(f'{workdir} holds no run to evaluate: train first, with --mode=train')
  prepare_workdir(workdir, config)
  checkpoints = open_checkpoints(workdir, config)
  state, _ = run.init_or_restore(checkpoints)
  checkpoints.close()
  step = int(state.step)
  if not step:
    raise UserError(f'{workdir} holds no checkpoint yet: train first, with --mode=train')
  started = time.time()
  replicated, bar = parallel.replicate(state), sys.stderr.isatty()
  figures = run.evaluate(parallel.pmap_step(run.eval_step), replicated, bar=bar, whole=True)
  if hosts.is_main_host():
    metric_log.replace_lines(workdir, step, figures)
  summary = run.summary(workdir, step, figures, seconds=time.time() - started, steps=0)
  with open_metric_writers(workdir, config, verbose=not quiet) as writers:
    for name, values in figures.items():
      writers.scalars(step, name, values)
    _close_with_report(run, state, workdir, summary, writers, quiet)
  return summary


def _close_with_report(run, state, workdir, summary, writers, quiet):
  """Draws report.html, says what came out, and shows both on the writers."""
  page = None
  if not quiet:
    page = _draw(run, state, workdir, summary, writers)
    _report(workdir, summary, page)
  writers.finish(summary, page)


def _draw(run, state, workdir, summary, writers):
  """Writes report.html and returns its path, or None without one.

  A run that is done is not lost over a picture: a line says what failed.
  """
  try:
    return report.write_report(
      workdir,
      config=run.config,
      spec=run.spec,
      model=run.model,
      variables=state.eval_variables(),
      summary=summary,
      writers=writers,
    )
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(
      f'No report: {type(error).__name__}: {" ".join(str(error).split())} '
      f'({pathlib.Path(place.filename).name}:{place.lineno}). The run itself is complete; '
      '--mode=eval tries again',
      file=sys.stderr,
    )
    return None


def _report(workdir, summary, page):
  """What came out, in three lines: figures, the page or file to open, the curves."""
  if not hosts.is_main_host():
    return
  shown = []
  for name, figures in summary['results'].items():
    chosen = [
      f'{key} {figures[key]:.3f}'
      for key in ('top1', 'mAP', 'click_error', 'mCE', 'bg_gap', 'challenge')
      if not np.isnan(figures.get(key, np.nan))
    ]
    shown.append(f'{name}: {", ".join(chosen)}')
  print(f'Step {summary["step"]}: ' + '; '.join(shown))
  for name, what in summary['not_prepared'].items():
    print(f'Not prepared: {name}: {what}')
  opened = f'Open {page} for pictures; ' if page else ''
  print(f'{opened}figures: {workdir}/summary.json, every step: {workdir}/metrics.jsonl')
  print(f'Curves: tensorboard --logdir {workdir}/tensorboard; checkpoints: {workdir}/checkpoints')
