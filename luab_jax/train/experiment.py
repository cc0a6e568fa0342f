"""What a config amounts to: the facts of its data, model, optimizer, steps and evaluations."""

import contextlib
import functools
import hashlib
import json
import pathlib
import platform

import jax
import tqdm

from luab_jax.data import pipeline, tfrecords
from luab_jax.errors import UserError
from luab_jax.evaluate import evaluate, robustness
from luab_jax.evaluate.steps import make_eval_step
from luab_jax.models import build_model, check_image_size
from luab_jax.models.losses import check_loss
from luab_jax.models.weights import load
from luab_jax.runtime import hosts, parallel
from luab_jax.runtime.workdir import write_json
from luab_jax.train.optimizer import make_optimizer, make_schedules
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step


class Experiment:
  """A config worked out; see the module's text."""

  def __init__(self, config):
    self.config = config
    _check_numbers(config)
    parallel.check_batch_size(config.batch_size, config.optimizer.grad_accum_steps)
    self.spec = spec = pipeline.dataset_spec(config.data)
    check_loss(config.loss, multi_label=spec.multi_label)
    check_image_size(config.model.name, config.data.image_size)
    self.model = build_model(
      config.model,
      num_classes=spec.num_classes,
      num_points=spec.num_points,
      multi_label=spec.multi_label,
    )
    builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
    train_split = tfrecords.open_split(builder, config.data.train_split)
    self.num_examples = train_split.num_examples
    files = hashlib.sha256(train_split.take.tobytes()).hexdigest()[:16]
    self.records = {'num_examples': self.num_examples, 'files': files}
    self.robustness = robustness.prepared(config.robustness, spec)
    for split in config.data.eval_splits.values():
      tfrecords.open_split(builder, split)  # an empty one shows now, not after the training
    per_epoch = self.num_examples / config.batch_size
    self.total_steps = config.total_steps or max(round(config.num_epochs * per_epoch), 1)
    every = config.eval_every_epochs * per_epoch
    count = int(self.total_steps / every) if every else 0
    self.eval_steps = {round(every * (i + 1)) for i in range(count)}
    schedules = make_schedules(config, self.total_steps, per_epoch)
    self.optimizer = make_optimizer(config.optimizer, schedules.learning_rate)
    self.train_step = make_train_step(self.model, self.optimizer, schedules, spec, config)
    self.eval_step = make_eval_step(self.model, spec, config.loss)

  def init_or_restore(self, checkpoints):
    """(state as numpy arrays, metadata): the newest checkpoint, or a fresh state and {}.

    A fresh state has the weights of `config.init_from`; `self.loaded` then says in lines which.
    Raises UserError where the checkpoint is of another model, or of classes with other names, or
    where those weights do not fit.
    """
    fresh = jax.device_get(
      init_state(
        self.model,
        self.optimizer,
        seed=self.config.seed,
        image_size=self.config.data.image_size,
        ema=bool(self.config.optimizer.ema_decay),
      )
    )
    self.num_params = sum(leaf.size for leaf in jax.tree.leaves(fresh.params))
    self.loaded = []
    state, metadata = checkpoints.restore(fresh) or (self._with_pretrained(fresh), {})
    if metadata and metadata['classes'] != self.spec.class_names:
      data = self.config.data
      raise UserError(
        f'{checkpoints.directory} was trained on other classes than {data.name} in '
        f'{data.data_dir} has: give the --config.data.data_dir it was trained on, or another '
        '--workdir'
      )
    return state, metadata

  def check_records(self, metadata):
    """Raises UserError unless the training records are those of the checkpoint's `metadata`."""
    before = metadata.get('records', self.records)
    if before != self.records:
      data = self.config.data
      raise UserError(
        f'the run was trained on {before["num_examples"]:,} records of {data.name}, '
        f'{data.train_split}; in {data.data_dir} there are {self.num_examples:,} now, or they lie '
        'in other files: give the data it was trained on, or start anew in another --workdir'
      )

  def _with_pretrained(self, fresh):
    """A fresh state with the weights of `config.init_from`, if that names a file."""
    config = self.config
    if not config.init_from:
      return fresh
    variables, self.loaded = load.load_pretrained(
      config.init_from, config.model, {'params': fresh.params, 'batch_stats': fresh.batch_stats}
    )
    params = variables['params']
    return fresh.replace(
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      ema_params=params if config.optimizer.ema_decay else {},
    )

  def metadata(self, step, log):
    """What a checkpoint says besides the state: where in data and RunLog it is, and the config."""
    epoch, position = divmod(step * self.config.batch_size, self.num_examples)
    return {
      'step': step,
      'data': {'epoch': epoch, 'position': position},
      'partial_sums': log.partial_sums(),
      'unwritten_lines': log.unwritten_lines(),
      'classes': self.spec.class_names,
      'records': self.records,
      'config': json.loads(self.config.to_json_best_effort()),
    }

  def is_evaluated_at(self, step) -> bool:
    """Whether the run is evaluated after this step."""
    return step == self.total_steps or step in self.eval_steps

  def report_names(self, step) -> set:
    """The names of all results of the evaluation after this step."""
    names = set(self.config.data.eval_splits)
    if step == self.total_steps:
      names |= robustness.split_names(self.robustness.sources)
    return names

  def evaluate(self, eval_step, state, *, bar, whole, interrupted=lambda: False):
    """Evaluates a state.

    Args:
      eval_step: pmapped `self.eval_step`.
      state: replicated TrainState.
      bar: whether to show progress bars.
      whole: also on the sets in `config.robustness.sets` that are there.
      interrupted: asked after each batch whether to give up.
    Returns:
      {report name: figures}.
    Raises:
      Interrupted: it was given up.
    """

    def progress(batches, total, name):
      for batch in tqdm.tqdm(batches, total=total, desc=name, leave=False, disable=not bar):
        if interrupted():
          raise Interrupted
        yield batch

    variables, config = state.eval_variables(), self.config
    results = {
      name: evaluate.evaluate_split(
        eval_step,
        variables,
        config.data,
        split,
        spec=self.spec,
        batch_size=config.batch_size,
        progress=functools.partial(progress, name=name),
      )
      for name, split in config.data.eval_splits.items()
    }
    if whole and self.robustness.sources:
      evaluator = robustness.SetEvaluator(
        self.model, variables, config.data, batch_size=config.batch_size, progress=progress
      )
      results |= evaluator.evaluate(self.robustness.sources)
    return results

  def describe(self, state, start):
    """One line: what runs where."""
    config, device = self.config, jax.devices()[0]
    begin = f'continues at step {start} of' if start else 'starts:'
    return (
      f'{config.model.name} ({self.num_params:,} parameters), {config.model.head} head on '
      f'{config.data.name}; {begin} {self.total_steps} steps of {config.batch_size} images on '
      f'{jax.device_count()} {device.device_kind} in {jax.process_count()} process(es)'
    )

  def summary(self, workdir, step, results, *, seconds, steps, ms_per_step=None):
    """The final figures; written to summary.json by the main host.

    Args:
      workdir: of the run.
      step, results: which evaluation, {report name: figures}.
      seconds, steps: what this start took and how many steps it trained.
      ms_per_step: of this start, None if unknown.
    """
    path = pathlib.Path(workdir) / 'summary.json'
    if not steps:  # nothing was trained now: what was measured then stays true
      with contextlib.suppress(OSError, ValueError):  # there is none, or a damaged one
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
    if hosts.is_main_host():
      write_json(path, summary)
    return summary


class Interrupted(Exception):  # noqa: N818 (no error)
  """An evaluation was given up."""


def _check_numbers(config):
  """Raises UserError for numbers that would fail later or not mean anything."""
  for key, low in (
    ('batch_size', 1),
    ('log_every', 1),
    ('checkpoint_every_steps', 1),
    ('total_steps', 0),
    ('eval_every_epochs', 0),
    ('keep_checkpoints', 1),
    ('report_images', 0),
    ('optimizer.grad_accum_steps', 1),
    ('optimizer.learning_rate', 0),
    ('loss.point_weight', 0),
  ):
    if not config[key] >= low:  # nor NaN
      raise UserError(f'{key}={config[key]} is too small: at least {low}')
  if not config.total_steps and not config.num_epochs > 0:
    raise UserError(
      f'num_epochs={config.num_epochs} trains nothing: set it, or total_steps, above 0'
    )
  if not -(1 << 63) <= config.seed < 1 << 63:
    raise UserError(f'seed={config.seed} does not fit into 64 bits')
  if config.on_nan not in ('stop', 'skip'):
    raise UserError(f"on_nan='{config.on_nan}' is unknown: choose stop or skip")
