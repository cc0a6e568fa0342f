"""What a config amounts to: its data set, model, optimizer, steps and evaluations."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import tqdm
from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.data.dataset import dataset_spec
from luab_jax.errors import UserError
from luab_jax.evaluate import evaluate, robustness
from luab_jax.evaluate.steps import EvalStep, make_eval_step
from luab_jax.models import build_model, check_image_size
from luab_jax.models.losses import check_loss
from luab_jax.models.weights import load
from luab_jax.runtime import parallel
from luab_jax.runtime.checkpoint import Checkpoints
from luab_jax.train.metric_log import RunLog
from luab_jax.train.optimizer import make_optimizer, make_schedules
from luab_jax.train.state import TrainState, init_state
from luab_jax.train.step import make_train_step

Metadata = dict[str, Any]  # of a checkpoint, see `Experiment.metadata`
Results = dict[str, dict[str, Any]]  # {split: metrics}


class EvaluationCancelled(Exception):
  """A signal came during an evaluation."""


class Experiment:
  """A config and what follows from it.

  Attributes:
    config: ml_collections.ConfigDict.
    spec: DatasetSpec of the training data.
    num_examples: of the training split.
    robustness: the benchmark sets that are prepared, and those that are missing.
    total_steps: of the whole training.
    model, optimizer: Flax module, optax transformation.
    train_step, eval_step: of one device, see `step.make_train_step`, `steps.make_eval_step`.
    num_params: set by `init_or_restore`.
    loaded: lines that say what `init_or_restore` took from `config.init_from`.
  """

  def __init__(self, config: ConfigDict):
    """Reads the metadata of the data and builds model, optimizer and steps; computes nothing.

    Raises:
      UserError: a wrong option, missing data, an empty split.
    """
    _check(config)
    parallel.check_batch_size(config.batch_size, config.optimizer.grad_accum_steps)
    self.config = config
    self.spec = spec = dataset_spec(config.data)
    check_loss(config.loss, multi_label=spec.multi_label)
    self.model = build_model(
      config.model,
      num_classes=spec.num_classes,
      num_points=spec.num_points,
      multi_label=spec.multi_label,
    )
    check_image_size(config.model.name, config.data.image_size)
    self._open_splits()
    self._plan_steps()
    schedules = make_schedules(config, self.total_steps, self._steps_per_epoch)
    self.optimizer = make_optimizer(config.optimizer, schedules.learning_rate)
    self.train_step = make_train_step(self.model, self.optimizer, schedules, spec, config)
    self.eval_step = make_eval_step(self.model, spec, config.loss)
    self.num_params = 0
    self.loaded: list[str] = []

  def _open_splits(self) -> None:
    data = self.config.data
    builder = tfrecords.open_builder(data.name, data.data_dir)
    train_split = tfrecords.open_split(builder, data.train_split)
    self.num_examples = train_split.num_examples
    files = hashlib.sha256(train_split.take.tobytes()).hexdigest()[:16]
    self._records = {'num_examples': self.num_examples, 'files': files}
    self.robustness = robustness.prepared(self.config.robustness, self.spec)
    for split in data.eval_splits.values():
      tfrecords.open_split(builder, split)  # an empty one is an error now, not after the training

  def _plan_steps(self) -> None:
    config = self.config
    self._steps_per_epoch = self.num_examples / config.batch_size
    num_steps = round(config.num_epochs * self._steps_per_epoch)
    self.total_steps = config.total_steps or max(num_steps, 1)
    every = config.eval_every_epochs * self._steps_per_epoch
    count = int(self.total_steps / every) if every else 0
    self._eval_steps = {round(every * (i + 1)) for i in range(count)} | {self.total_steps}

  def init_or_restore(self, checkpoints: Checkpoints) -> tuple[TrainState, Metadata]:
    """(state as numpy arrays, metadata): the newest checkpoint, or a fresh state and {}.

    A fresh state has the weights of `config.init_from`. Raises UserError where the checkpoint is of
    another model, of an older version or of classes with other names, or where those weights do not
    fit.
    """
    config = self.config
    fresh = jax.device_get(
      init_state(
        self.model,
        self.optimizer,
        seed=config.seed,
        image_size=config.data.image_size,
        ema=bool(config.optimizer.ema_decay),
      )
    )
    self.num_params = sum(leaf.size for leaf in jax.tree.leaves(fresh.params))
    self.loaded = []
    restored = checkpoints.restore(fresh)
    if restored is None:
      return self._with_pretrained(fresh), {}
    state, metadata = restored
    if 'dataset' not in metadata:
      raise UserError(
        f'{checkpoints.directory} was written by an older version: use that one, or another '
        '--workdir'
      )
    if metadata['dataset']['class_names'] != self.spec.class_names:
      raise UserError(
        f'{checkpoints.directory} was trained on other classes than {config.data.name} in '
        f'{config.data.data_dir} has: give the --config.data.data_dir it was trained on, or '
        'another --workdir'
      )
    return state, metadata

  def _with_pretrained(self, fresh: TrainState) -> TrainState:
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

  def check_records(self, metadata: Metadata) -> None:
    """Raises UserError unless the training records are those of the checkpoint's `metadata`."""
    before = metadata.get('records', self._records)
    if before != self._records:
      data = self.config.data
      raise UserError(
        f'the run was trained on {before["num_examples"]:,} records of {data.name}, '
        f'{data.train_split}; in {data.data_dir} there are {self.num_examples:,} now, or they lie '
        'in other files: give the data it was trained on, or start anew in another --workdir'
      )

  def metadata(self, step: int, log: RunLog) -> Metadata:
    """What a checkpoint holds beside the state: all that resuming and prediction need to know."""
    epoch, position = divmod(step * self.config.batch_size, self.num_examples)
    return {
      'step': step,
      'data': {'epoch': epoch, 'position': position},
      'partial_sums': log.partial_sums(),
      'unwritten_lines': log.unwritten_lines(),
      'dataset': self.spec._asdict(),
      'records': self._records,
      'config': json.loads(self.config.to_json_best_effort()),
    }

  def is_evaluated_at(self, step: int) -> bool:
    """Whether the run is evaluated after this step."""
    return step in self._eval_steps

  def split_names(self, step: int) -> set[str]:
    """The splits, benchmark sets included, that the evaluation after this step has results of."""
    names = set(self.config.data.eval_splits)
    if step == self.total_steps:
      names |= robustness.split_names(self.robustness.sources)
    return names

  def evaluate(
    self,
    eval_step: EvalStep,
    state: TrainState,
    *,
    show_progress: bool,
    include_robustness: bool,
    cancelled: Callable[[], bool] = lambda: False,
  ) -> Results:
    """Evaluates a state.

    Args:
      eval_step: pmapped `self.eval_step`.
      state: replicated TrainState.
      show_progress: whether to show progress bars.
      include_robustness: also on the sets in `config.robustness.sets` that are there.
      cancelled: called after each batch, whether to stop.
    Returns:
      {split: metrics}.
    Raises:
      EvaluationCancelled: `cancelled` returned True.
    """

    def progress(batches: Iterable, total: int, name: str) -> Iterator:
      disable = not show_progress
      for batch in tqdm.tqdm(batches, total=total, desc=name, leave=False, disable=disable):
        if cancelled():
          raise EvaluationCancelled
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
    if include_robustness and self.robustness.sources:
      evaluator = robustness.SetEvaluator(
        self.model, variables, config.data, batch_size=config.batch_size, progress=progress
      )
      results |= evaluator.evaluate(self.robustness.sources)
    return results

  def describe(self, start: int) -> str:
    """One line: what is trained on what, from step `start` on."""
    config, device = self.config, jax.devices()[0]
    begin = f'continues at step {start} of' if start else 'starts:'
    return (
      f'{config.model.name} ({self.num_params:,} parameters), {config.model.head} head on '
      f'{config.data.name}; {begin} {self.total_steps} steps of {config.batch_size} images on '
      f'{jax.device_count()} {device.device_kind} in {jax.process_count()} process(es)'
    )


def _check(config: ConfigDict) -> None:
  """Raises UserError for values that would fail later or not mean anything."""
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
