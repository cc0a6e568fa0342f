"""The training run, top to bottom: data, model, steps, evaluation, checkpoints, summary."""

import json
import pathlib
import platform
import sys
import time
import traceback

import jax
import numpy as np
import tqdm

from luab_jax import evaluate, input_pipeline, parallel, records, report, robustness, run_log
from luab_jax.checkpoint import Checkpoints
from luab_jax.errors import UserError
from luab_jax.losses import point_weight_schedule
from luab_jax.models import build_model
from luab_jax.step import (
  make_answer_step,
  make_eval_step,
  make_foreground_step,
  make_train_step,
)
from luab_jax.train_state import init_state, learning_rate_schedule, make_optimizer

# Keys that may differ between the start of a run and its continuation: they change neither the
# model, nor the order of the data, nor what a checkpoint holds.
HARMLESS = (
  'num_epochs', 'total_steps', 'log_every', 'eval_every_epochs', 'checkpoint_every_steps',
  'keep_checkpoints', 'report_images', 'data.data_dir', 'data.eval_splits', 'robustness.',
  'study.',
)


def train_and_evaluate(config, workdir, *, quiet=False) -> dict:
  """Trains (or continues) a run, evaluates it and writes its files.

  Args:
    config: ml_collections.ConfigDict, see configs/quickstart.py for all keys.
    workdir: folder; gets config.json, metrics.jsonl, summary.json, report.html, tensorboard/,
      checkpoints/.
    quiet: one of many runs: prints nothing but a progress bar that goes away.
  Returns:
    What summary.json holds.
  Raises:
    UserError: bad config, missing data, a workdir of another run, a loss that is not finite.
  """
  workdir = pathlib.Path(workdir)
  run = Run(config)
  claim_workdir(workdir, config)
  checkpoints = Checkpoints(workdir / 'checkpoints', keep=config.keep_checkpoints)
  state, note = run.init_or_restore(checkpoints)
  start = int(state.step)
  log = run_log.RunLog(
    workdir, log_every=config.log_every, total_steps=run.total_steps,
    batch_size=config.batch_size, image_size=config.data.image_size, start_step=start,
    partial=note.get('partial_sums'), quiet=quiet,
  )
  log.say(run.describe(state, start))
  for name, what in run.robustness.missing.items():
    log.say(f'robustness.sets: {name} is not prepared: {what}')
  started = time.time()
  try:
    state = _train(run, state, start, checkpoints, log)
  finally:
    log.close()
    checkpoints.close()
  summary = run.summary(
    workdir, seconds=time.time() - started, steps=run.total_steps - start,
    ms_per_step=log.ms_per_step(),
  )
  if not quiet:
    _report(workdir, summary, _draw(run, state, workdir, summary))
  return summary


def _train(run, state, start, checkpoints, log):
  """The loop. Nothing in it waits for the device but logging, evaluation and checkpoints.

  Returns the state at the end as numpy arrays.
  """
  config = run.config
  state = parallel.replicate(state)
  train_step = parallel.pmap_step(run.train_step, donate_state=True)
  eval_step = parallel.pmap_step(run.eval_step)
  batches = parallel.prefetch(
    input_pipeline.train_batches(
      config.data, seed=config.seed, batch_size=config.batch_size, start_step=start,
      num_hosts=jax.process_count(), host=jax.process_index(),
    ).as_numpy_iterator()
  )
  for step in range(start + 1, run.total_steps + 1):
    state, sums = train_step(state, next(batches))
    log.add(step, sums)
    last = step == run.total_steps
    save = last or step % config.checkpoint_every_steps == 0
    if last or step in run.eval_steps:
      log.flush()
      results = run.evaluate(eval_step, state, bar=log.terminal)
      if last:
        results |= run.evaluate_robustness(state, bar=log.terminal)
      for name, figures in results.items():
        log.write(step, name, figures)
    if save:
      log.flush()  # a loss that is not finite stops the run here, before it could be saved
      checkpoints.save(step, parallel.fetch(state), run.note(step, log.partial_sums()))
  return parallel.fetch(state)


def evaluate_only(config, workdir, *, quiet=False) -> dict:
  """Evaluates the newest checkpoint of a run on `config.data.eval_splits` and the robustness sets.

  Writes summary.json, report.html and the lines of metrics.jsonl, where they replace those of the
  same step, and returns what the first holds. Raises UserError without a checkpoint.
  """
  workdir = pathlib.Path(workdir)
  run = Run(config)
  if not (workdir / 'checkpoints').is_dir():
    raise UserError(f'{workdir} holds no run to evaluate: train first, with --mode=train')
  claim_workdir(workdir, config)
  checkpoints = Checkpoints(workdir / 'checkpoints', keep=config.keep_checkpoints)
  state, _ = run.init_or_restore(checkpoints)
  checkpoints.close()
  step = int(state.step)
  if not step:
    raise UserError(f'{workdir} holds no checkpoint yet: train first, with --mode=train')
  started = time.time()
  replicated, bar = parallel.replicate(state), sys.stderr.isatty()
  figures = run.evaluate(parallel.pmap_step(run.eval_step), replicated, bar=bar)
  figures |= run.evaluate_robustness(replicated, bar=bar)
  if parallel.is_main_host():
    run_log.replace_lines(workdir, step, figures)
  summary = run.summary(workdir, seconds=time.time() - started, steps=0, evaluated=(step, figures))
  if not quiet:
    _report(workdir, summary, _draw(run, state, workdir, summary))
  return summary


class Run:
  """What a config amounts to: the data set's facts, model, optimizer, steps."""

  def __init__(self, config):
    self.config = config
    parallel.check_batch_size(config.batch_size, config.optimizer.grad_accum_steps)
    self.spec = spec = input_pipeline.dataset_spec(config.data)
    self.model = build_model(
      config.model, num_classes=spec.num_classes, num_points=spec.num_points,
      multi_label=spec.multi_label,
    )
    builder = records.open_builder(config.data.name, config.data.data_dir)
    self.num_examples = records.open_split(builder, config.data.train_split).num_examples
    self.robustness = robustness.prepared(config.robustness, spec)
    for split in config.data.eval_splits.values():
      records.open_split(builder, split)  # an empty one shows now, not after the training
    per_epoch = self.num_examples / config.batch_size
    self.total_steps = config.total_steps or max(round(config.num_epochs * per_epoch), 1)
    every = config.eval_every_epochs * per_epoch
    count = int(self.total_steps / every) if every else 0
    self.eval_steps = {round(every * (i + 1)) for i in range(count)}
    schedule = learning_rate_schedule(config.optimizer, self.total_steps, per_epoch)
    self.optimizer = make_optimizer(config.optimizer, schedule)
    self.train_step = make_train_step(
      self.model, self.optimizer, spec=spec, loss=config.loss, schedule=schedule,
      point_weight=point_weight_schedule(
        config.loss.point_schedule, config.loss.point_weight, total_steps=self.total_steps,
        warmup_steps=config.loss.point_warmup_steps,
      ),
      ema_decay=config.optimizer.ema_decay, accum=config.optimizer.grad_accum_steps,
    )
    self.eval_step = make_eval_step(self.model, spec=spec, loss=config.loss)

  def init_or_restore(self, checkpoints):
    """(state as numpy arrays, note): the newest checkpoint, or a fresh state and {}."""
    fresh = jax.device_get(
      init_state(
        self.model, self.optimizer, seed=self.config.seed, image_size=self.config.data.image_size,
        ema=bool(self.config.optimizer.ema_decay),
      )
    )
    self.num_params = sum(leaf.size for leaf in jax.tree.leaves(fresh.params))
    return checkpoints.restore(fresh) or (fresh, {})

  def note(self, step, partial_sums):
    """What a checkpoint says besides the state: where in the data it is, and the config."""
    epoch, position = divmod(step * self.config.batch_size, self.num_examples)
    return {
      'step': step, 'data': {'epoch': epoch, 'position': position},
      'partial_sums': partial_sums, 'config': json.loads(self.config.to_json_best_effort()),
    }

  def evaluate(self, eval_step, state, *, bar):
    """{report name: figures} of every split in `config.data.eval_splits`."""
    return {
      name: evaluate.evaluate_split(
        eval_step, state.eval_variables(), self.config.data, split, spec=self.spec,
        batch_size=self.config.batch_size, progress=_progress(bar, name),
      )
      for name, split in self.config.data.eval_splits.items()
    }

  def evaluate_robustness(self, state, *, bar):
    """{report name: figures} of the sets in `config.robustness.sets` that are there."""
    return robustness.evaluate_sets(
      self.robustness.sources, parallel.pmap_step(make_answer_step(self.model)),
      parallel.pmap_step(make_foreground_step(self.model)), state.eval_variables(),
      self.config.data, batch_size=self.config.batch_size, progress=_progress(bar),
    )

  def describe(self, state, start):
    """One line: what runs where."""
    config, device = self.config, jax.devices()[0]
    begin = f'continues at step {start} of' if start else 'starts:'
    return (
      f'{config.model.name} ({self.num_params:,} parameters), {config.model.head} head on '
      f'{config.data.name}; {begin} {self.total_steps} steps of {config.batch_size} images on '
      f'{jax.device_count()} {device.device_kind} in {jax.process_count()} process(es)'
    )

  def summary(self, workdir, *, seconds, steps, evaluated=None, ms_per_step=None):
    """The final figures; written to summary.json by the main host."""
    lines = run_log.read_lines(workdir)
    if evaluated is None:
      step = self.total_steps
      results = {
        line['split']: {k: v for k, v in line.items() if k not in ('step', 'split')}
        for line in lines
        if line['step'] == step and line['split'] != 'train'
      }
    else:
      step, results = evaluated
    path = pathlib.Path(workdir) / 'summary.json'
    if not steps and path.exists():  # nothing was trained now: what was measured then stays true
      ms_per_step = json.loads(path.read_text(encoding='utf-8')).get('ms_per_step')
    summary = {
      'step': step,
      'total_steps': self.total_steps,
      'parameters': self.num_params,
      'results': results,
      'not_prepared': self.robustness.missing,
      'seconds_in_this_start': round(seconds, 1),
      'steps_in_this_start': steps,
      'ms_per_step': ms_per_step,
      'machine': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
      'versions': {'python': platform.python_version(), 'jax': jax.__version__},
    }
    if parallel.is_main_host():
      _write_json(path, summary)
    return summary


def _progress(bar, name=None):
  """A function (iterable, total, name) that shows a progress bar if `bar`."""
  def progress(batches, total, name=name):
    return tqdm.tqdm(batches, total=total, desc=name, leave=False, disable=not bar)

  return progress


def claim_workdir(workdir, config, harmless=HARMLESS):
  """Creates the run's folder, or checks that it belongs to the same experiment.

  Args:
    workdir: pathlib.Path.
    config: of the run that is about to start or continue.
    harmless: keys, or beginnings of keys, that may differ from the config found there.
  Raises:
    UserError: other keys differ; the folder cannot be written.
  """
  path = workdir / 'config.json'
  mine = _flatten(json.loads(config.to_json_best_effort()))
  if path.exists():
    theirs = _flatten(json.loads(path.read_text(encoding='utf-8')))
    differing = [
      f'{key} (there {theirs.get(key)}, here {mine.get(key)})'
      for key in sorted(mine.keys() | theirs.keys())
      if mine.get(key) != theirs.get(key) and not key.startswith(harmless)
    ]
    if differing:
      raise UserError(
        f'{workdir} holds a run of another config: {"; ".join(differing[:5])}'
        + (f' and {len(differing) - 5} more' if len(differing) > 5 else '')
        + '; choose another --workdir, or delete this one'
      )
  elif parallel.is_main_host():
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      _write_json(path, json.loads(config.to_json_best_effort()))
    except OSError as error:
      raise UserError(f'cannot write to --workdir={workdir}: {error}') from error


def _flatten(tree, prefix=''):
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= _flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat


def _write_json(path, content):
  temporary = path.with_suffix('.tmp')
  temporary.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
  temporary.replace(path)


def _draw(run, state, workdir, summary):
  """Writes report.html and returns its path, or None without one.

  A run that is done is not lost over a picture: a line says what failed.
  """
  try:
    return report.write_report(
      workdir, config=run.config, spec=run.spec, model=run.model,
      variables=state.eval_variables(), summary=summary,
    )
  except Exception as error:
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(
      f'No report: {type(error).__name__}: {" ".join(str(error).split())} '
      f'({pathlib.Path(place.filename).name}:{place.lineno}). The run itself is complete; '
      '--mode=eval tries again', file=sys.stderr,
    )
    return None


def _report(workdir, summary, page):
  """What came out, in three lines: figures, the page or file to open, the curves."""
  if not parallel.is_main_host():
    return
  shown = []
  for name, figures in summary['results'].items():
    chosen = [
      f'{key} {figures[key]:.3f}'
      for key in ('top1', 'mAP', 'click_error') if not np.isnan(figures.get(key, np.nan))
    ]
    shown.append(f'{name}: {", ".join(chosen)}')
  print(f'Step {summary["step"]}: ' + '; '.join(shown))
  for name, what in summary['not_prepared'].items():
    print(f'Not prepared: {name}: {what}')
  opened = f'Open {page} for pictures; ' if page else ''
  print(f'{opened}figures: {workdir}/summary.json, every step: {workdir}/metrics.jsonl')
  print(f'Curves: tensorboard --logdir {workdir}/tensorboard; checkpoints: {workdir}/checkpoints')
