"""What a config defines: its data set, model, optimizer, steps and evaluations."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import tqdm
from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.data.contents import check_contents, contents
from luab_jax.data.dataset import dataset_spec
from luab_jax.data.pipeline import EvalSplits, Rows
from luab_jax.errors import UserError
from luab_jax.evaluate import evaluate, localization, outcomes, robustness
from luab_jax.evaluate.steps import EvalStep, make_eval_step, make_localization_step
from luab_jax.models import build_model
from luab_jax.models.losses import check_loss
from luab_jax.models.weights import load
from luab_jax.runtime import parallel
from luab_jax.runtime.checkpoint import Checkpoints
from luab_jax.train.metric_log import RunLog
from luab_jax.train.optimizer import Schedules, make_optimizer, make_schedules
from luab_jax.train.options import check_keep_best, check_options
from luab_jax.train.state import TrainState, init_state
from luab_jax.train.step import make_train_step
from luab_jax.train.version import project_version

Metadata = dict[str, Any]  # of a checkpoint, see `Experiment.metadata`
Results = dict[str, dict[str, Any]]  # {split: metrics}


class EvaluationCancelled(Exception):
  """A stop signal arrived during an evaluation."""


class Experiment:
  """A config and everything built from it.

  Attributes:
    config: ml_collections.ConfigDict.
    project: version and commit of the code, see version.py.
    spec: DatasetSpec of the training data.
    rows: the rows of each batch that belong to this host.
    num_examples: number of training examples.
    splits: EvalSplits of the data set.
    robustness: the benchmark sets that are prepared, and those that are missing.
    total_steps: number of training steps.
    contents: {split: digest} of the data set, see data/contents.py.
    model, optimizer: Flax module, optax transformation.
    train_step, eval_step: for one device, see `step.make_train_step`, `steps.make_eval_step`.
    outcomes: per-example outcomes of the final evaluation, see evaluate/outcomes.py.
    num_params: number of parameters, set by `init_or_restore`.
    loaded: lines that say what `init_or_restore` loaded from `config.init_from`.
  """

  def __init__(self, config: ConfigDict):
    """Checks the options, reads the data set's metadata, and builds model, optimizer and steps.

    Raises:
      UserError: an invalid option, missing data, an empty split.
    """
    check_options(config)
    self.config = config
    self.project = project_version()
    self.spec = spec = dataset_spec(config.data)
    check_loss(config.loss, multi_label=spec.multi_label, has_heatmap=spec.has_heatmap)
    check_keep_best(config, spec)
    self.model = build_model(
      config.model,
      num_classes=spec.num_classes,
      num_points=spec.num_points,
      multi_label=spec.multi_label,
    )
    self.rows = Rows(config.batch_size, jax.process_count(), jax.process_index())
    self.splits = EvalSplits(config.data, spec, self.rows)
    self._open_splits()
    self._plan_steps()
    schedules = self._schedules(self.total_steps)
    self.optimizer = make_optimizer(config, schedules.learning_rate)
    self.train_step = make_train_step(self.model, self.optimizer, schedules, spec, config)
    self.eval_step = make_eval_step(self.model, spec, config.loss)
    self._localize = parallel.map_step(make_localization_step(self.model, spec))
    self._eval_compiled = False
    self.outcomes: outcomes.Columns = {}
    self.num_params = 0
    self.loaded: list[str] = []

  def _open_splits(self) -> None:
    data = self.config.data
    train_split = tfrecords.open_split(self.splits.builder, data.train_split)
    self.num_examples = train_split.num_examples
    files = hashlib.sha256(train_split.take.tobytes()).hexdigest()[:16]
    self._records = {'num_examples': self.num_examples, 'files': files}
    self.robustness = robustness.prepared(self.config.robustness, self.spec)
    self.splits.num_examples()  # raises for an empty split now, not after the training
    self.contents = contents(data)

  def _plan_steps(self) -> None:
    config = self.config
    self._steps_per_epoch = self.num_examples / config.batch_size
    num_steps = round(config.num_epochs * self._steps_per_epoch)
    self.total_steps = config.total_steps or max(num_steps, 1)
    every = config.eval_every_epochs * self._steps_per_epoch
    count = int(self.total_steps / every) if every else 0
    self._eval_steps = {round(every * (i + 1)) for i in range(count)} | {self.total_steps}

  def _schedules(self, total_steps: int) -> Schedules:
    return make_schedules(self.config, total_steps, self._steps_per_epoch)

  def init_or_restore(self, checkpoints: Checkpoints) -> tuple[TrainState, Metadata]:
    """(state as numpy arrays, metadata) of the newest checkpoint, or a fresh state and {}.

    A fresh state has the weights of `config.init_from`, if set. Raises UserError if the checkpoint
    belongs to another model, an older version or other class names, or if the weights do not fit.
    """
    config = self.config
    init = functools.partial(
      init_state,
      self.model,
      self.optimizer,
      seed=config.seed,
      image_size=config.data.image_size,
      ema=bool(config.optimizer.ema_decay),
    )
    # If there is a checkpoint, initial values are neither compiled nor computed.
    fresh = jax.eval_shape(init) if checkpoints.latest_step() else jax.device_get(init())
    self.num_params = sum(leaf.size for leaf in jax.tree.leaves(fresh.params))
    self.loaded = []
    restored = checkpoints.restore(fresh)
    if restored is None:
      return self._with_pretrained(fresh), {}
    state, metadata = restored
    if 'dataset' not in metadata:
      raise UserError(
        f'{checkpoints.directory} was written by an older version: use that version, or another '
        '--workdir'
      )
    if metadata['dataset']['class_names'] != self.spec.class_names:
      raise UserError(
        f'{checkpoints.directory} was trained on other classes than those of {config.data.name} in '
        f'{config.data.data_dir}: give the --config.data.data_dir it was trained on, or another '
        '--workdir'
      )
    return state, metadata

  def _with_pretrained(self, fresh: TrainState) -> TrainState:
    """A fresh state with the weights of `config.init_from`, if set."""
    config = self.config
    if not config.init_from:
      return fresh
    variables, self.loaded = load.load_pretrained(
      config.init_from, config.model, {'params': fresh.params, 'batch_stats': fresh.batch_stats}
    )
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    ema = bool(config.optimizer.ema_decay)
    return fresh.replace(
      params=params,
      batch_stats=batch_stats,
      ema_params=params if ema else {},
      ema_batch_stats=batch_stats if ema else {},
    )

  def check_continues(self, metadata: Metadata) -> list[str]:
    """Warnings about continuing from the checkpoint with this metadata, one per line.

    Raises:
      UserError: it is beyond the last step, or was trained on other records or contents.
    """
    self._check_records(metadata)
    step, planned = metadata.get('step', 0), metadata.get('total_steps', self.total_steps)
    self.check_steps(step)
    lines = []
    if metadata and not self.contents:
      lines.append(
        f'{self.config.data.name} was built by an older version, without a digest of its '
        'contents, so changes would not be noticed'
      )
    if planned != self.total_steps:
      before, now = (self._schedules(n).learning_rate(step) for n in (planned, self.total_steps))
      lines.append(
        f'the run was planned for {planned} steps and now has {self.total_steps}: at step {step} '
        f'the learning rate jumps from {before:.3g} to {now:.3g}; a run of this length from the '
        'start, in another --workdir, has no such jump'
      )
    return lines

  def check_steps(self, step: int) -> None:
    """Raises UserError if a checkpoint is beyond the last step of this config."""
    if step > self.total_steps:
      raise UserError(
        f'the run is at step {step}, but this config ends after {self.total_steps}: set num_epochs '
        'or total_steps back to what they were, or train in another --workdir'
      )

  def _check_records(self, metadata: Metadata) -> None:
    before = metadata.get('records', self._records)
    data = self.config.data
    if before != self._records:
      raise UserError(
        f'the run was trained on {before["num_examples"]:,} records of {data.name}, '
        f'{data.train_split}; {data.data_dir} now has {self.num_examples:,}, or has them in other '
        'files: give the data it was trained on, or start again in another --workdir'
      )
    check_contents(metadata.get('contents', {}), self.contents, data)

  def metadata(self, step: int, log: RunLog) -> Metadata:
    """What a checkpoint holds besides the state: everything that resuming and prediction need."""
    epoch, position = divmod(step * self.config.batch_size, self.num_examples)
    return {
      'step': step,
      'data': {'epoch': epoch, 'position': position},
      'partial_sums': log.partial_sums(),
      'unwritten_lines': log.unwritten_lines(),
      'dataset': self.spec._asdict(),
      'records': self._records,
      'contents': self.contents,
      'total_steps': self.total_steps,
      'config': json.loads(self.config.to_json_best_effort()),
    }

  def is_evaluated_at(self, step: int) -> bool:
    """Whether the run is evaluated after this step."""
    return step in self._eval_steps

  def split_names(self, step: int) -> set[str]:
    """The splits, including benchmark sets, that the evaluation after this step covers."""
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
    final: bool,
    cancelled: Callable[[], bool] = lambda: False,
  ) -> Results:
    """Evaluates a state.

    Args:
      eval_step: pmapped `self.eval_step`.
      state: replicated TrainState.
      show_progress: whether to show progress bars.
      final: measure localisation on all images, not only `config.localization.max_images` of each
        split, also evaluate heat maps and the prepared robustness sets, and set `outcomes`.
      cancelled: called for each batch; True stops the evaluation.
    Returns:
      {split: metrics}.
    Raises:
      EvaluationCancelled: `cancelled` returned True.
    """

    def progress(batches: Iterable, total: int, name: str) -> Iterator:
      bar = tqdm.tqdm(batches, total=total, desc=name, leave=False, disable=not show_progress)
      if not self._eval_compiled:
        bar.set_postfix_str('compiling (once)')
      for batch in bar:
        if cancelled():
          raise EvaluationCancelled
        yield batch
        self._eval_compiled = True
        bar.set_postfix_str('', refresh=False)

    where = variables, splits = state.eval_variables(), self.splits
    max_images = None if final else self.config.localization.max_images
    with localization.thread_pool() as pool:  # works while the devices do everything else
      places = evaluate.localize_splits(
        self._localize, *where, pool=pool, max_images=max_images, progress=progress
      )
      evaluated = {
        name: evaluate.evaluate_split(
          eval_step, *where, split, progress=functools.partial(progress, name=name)
        )
        for name, split in splits.data.eval_splits.items()
      }
      aligned = evaluate.align_splits(self.model, *where, progress=progress) if final else {}
      results = {name: found | aligned.get(name, {}) for name, (found, _) in evaluated.items()}
      if final and self.robustness.sources:
        evaluator = robustness.SetEvaluator(
          self.model, variables, splits.data, batch_size=self.config.batch_size, progress=progress
        )
        results |= evaluator.evaluate(self.robustness.sources)
      for name, place in places.items():
        results[name] |= place.metrics(functools.partial(progress, name=f'{name}, maps'))
    if final:
      rows = {name: columns for name, (_, columns) in evaluated.items()}
      self.outcomes = outcomes.collect(rows, places)
    return results
