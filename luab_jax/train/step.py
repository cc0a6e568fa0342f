"""One training step, seen from a single device.

An SPMD function: it sees one device's state and shard of the batch, and reduces over
`parallel.AXIS` what has to be global. Losses and metrics are returned as {name: (sum, count)} over
the whole global batch, so nothing depends on the number of devices or hosts.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from luab_jax.data.dataset import Batch, DatasetSpec
from luab_jax.evaluate.metrics import valid_points
from luab_jax.evaluate.steps import loss_and_metric_sums
from luab_jax.models import Params
from luab_jax.models.drop import example_keys
from luab_jax.models.losses import Sums
from luab_jax.runtime.parallel import AXIS
from luab_jax.train import mixing
from luab_jax.train.optimizer import Schedules
from luab_jax.train.state import TrainState, seed_key

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Sums]]


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  schedules: Schedules,
  spec: DatasetSpec,
  config: ConfigDict,
) -> TrainStep:
  """Builds `step(state, batch) -> (state, sums)` for one device.

  Args:
    model: see `luab_jax.models`.
    optimizer, schedules: see `optimizer`; the learning rate is only reported here.
    spec: of the data set.
    config: of the experiment. Gradient accumulation gives the gradient of the whole batch. With
      on_nan='skip' a step whose loss, gradient or result is not finite changes only the step
      number and the schedules; it counts as `skipped`, and its other sums are 0.
  Returns:
    A function to be mapped by `parallel.map_step`; for the batch see `pipeline`.
  """

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
    batch = _randomised(config, batch, state.step)
    counts = _global_counts(batch)
    scheduled = {
      name: jnp.asarray(schedule(state.step), jnp.float32)
      for name, schedule in schedules._asdict().items()
      if schedule
    }

    def forward(params: Params, batch_stats: Params, batch: Batch) -> tuple[jax.Array, Any]:
      output, updated = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        batch['image'],
        train=True,
        keys=batch.get('keys'),
        mutable=['batch_stats'],
      )
      sums = loss_and_metric_sums(output, batch, spec, config.loss)
      if 'partner' in batch:  # of MixUp and CutMix
        partner = loss_and_metric_sums(output, batch['partner'], spec, config.loss)
        sums = jax.tree.map(jnp.add, sums, partner)
      return _total_loss(sums, counts, scheduled), (updated.get('batch_stats', {}), sums)

    gradient, batch_stats, sums = _accumulate(
      jax.grad(forward, has_aux=True), state, batch, config.optimizer.grad_accum_steps
    )
    gradient, sums = jax.lax.psum((gradient, sums), AXIS)
    # Devices may normalise with their own batch statistics, but share the running averages.
    batch_stats = jax.lax.pmean(batch_stats, AXIS)
    new_state = _update(state, optimizer, gradient, batch_stats, config.optimizer.ema_decay)
    sums |= {
      'loss': (_total_loss(sums, counts, scheduled), 1.0),
      'grad_norm': (optax.global_norm(gradient), 1.0),
      **{name: (value, 1.0) for name, value in scheduled.items()},
    }
    if config.on_nan == 'skip':
      return _skip_unless_finite(state, new_state, sums)
    return new_state, sums

  return step


def _total_loss(
  sums: Sums, counts: tuple[jax.Array, jax.Array], weights: dict[str, jax.Array]
) -> jax.Array:
  """The total loss, or the part of one micro-batch or device; `counts` from `_global_counts`."""
  examples, points = counts
  loss = sums['class_loss'][0] / examples + weights['point_weight'] * sums['point_loss'][0] / points
  if 'map_loss' in sums:
    loss += weights['map_weight'] * sums['map_loss'][0] / points
  return loss


def _global_counts(batch: Batch) -> tuple[jax.Array, jax.Array]:
  """Total weights of the examples and of the points in the global batch; 1 if there are none.

  They do not depend on the parameters. Known in advance, they make the loss of each micro-batch and
  device a summand of the global loss, so that the gradients simply add up.
  """
  examples, points = batch['example_mask'].sum(), valid_points(batch).sum()
  if 'partner' in batch:
    examples += batch['partner']['example_mask'].sum()
    points += valid_points(batch['partner']).sum()
  examples, points = jax.lax.psum((examples, points), AXIS)
  return jnp.where(examples > 0, examples, 1), jnp.where(points > 0, points, 1)


def _randomised(config: ConfigDict, batch: Batch, step: jax.Array) -> Batch:
  """Applies MixUp or CutMix, and adds the PRNG keys [b] for dropout and stochastic depth.

  Both are the same on any number of devices.
  """
  if mixing.is_on(config.data):
    batch = mixing.mix(config, batch, step)
  if config.model.drop_path or config.model.dropout:
    count = batch['example_mask'].shape[0]
    first = jax.lax.axis_index(AXIS) * count
    batch = {**batch, 'keys': example_keys(seed_key(config.seed), step, first, count)}
  return batch


def _accumulate(
  gradient_of: Callable[[Params, Params, Batch], Any],
  state: TrainState,
  batch: Batch,
  num_micro_batches: int,
) -> tuple[Params, Params, Sums]:
  """(gradient, batch_stats, sums) of a batch, computed in one or more sequential micro-batches."""
  if num_micro_batches == 1:
    gradient, (batch_stats, sums) = gradient_of(state.params, state.batch_stats, batch)
    return gradient, batch_stats, sums

  def add(carry: tuple[Params, Params], micro_batch: Batch) -> tuple[tuple[Params, Params], Sums]:
    gradient, batch_stats = carry
    new, (batch_stats, sums) = gradient_of(state.params, batch_stats, micro_batch)
    return (jax.tree.map(jnp.add, gradient, new), batch_stats), sums

  micro_batches = jax.tree.map(
    lambda x: x.reshape(num_micro_batches, x.shape[0] // num_micro_batches, *x.shape[1:]), batch
  )
  zeros = jax.tree.map(jnp.zeros_like, state.params)
  (gradient, batch_stats), sums = jax.lax.scan(add, (zeros, state.batch_stats), micro_batches)
  return gradient, batch_stats, jax.tree.map(lambda values: values.sum(0), sums)


def _update(
  state: TrainState,
  optimizer: optax.GradientTransformation,
  gradient: Params,
  batch_stats: Params,
  ema_decay: float,
) -> TrainState:
  """The state after an optimizer step.

  Both parameters and BatchNorm statistics are averaged, as in timm's ModelEmaV2; after t steps the
  decay is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
  """
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema_params, ema_batch_stats = state.ema_params, state.ema_batch_stats
  if ema_decay:
    new_share = 1 - jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema_params, ema_batch_stats = optax.incremental_update(
      (params, batch_stats), (ema_params, ema_batch_stats), new_share
    )
  return state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    ema_params=ema_params,
    ema_batch_stats=ema_batch_stats,
  )


def _skip_unless_finite(
  state: TrainState, new_state: TrainState, sums: Sums
) -> tuple[TrainState, Sums]:
  """(new state, sums) as given, or the old state and zero sums if a value is not finite."""
  finite = jnp.isfinite(sums['loss'][0]) & jnp.isfinite(sums['grad_norm'][0])
  for leaf in jax.tree.leaves((new_state.params, new_state.batch_stats)):
    finite &= jnp.isfinite(leaf).all()

  def choose(after: Any, before: Any) -> Any:
    if isinstance(after, optax.ScaleByScheduleState):  # the learning rate follows the step number
      return after
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), after, before)

  new_state = jax.tree.map(
    choose,
    new_state,
    state.replace(step=new_state.step),
    is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
  )
  sums = jax.tree.map(lambda value: jnp.where(finite, value, 0.0), sums)
  return new_state, {**sums, 'skipped': (1.0 - finite, 1.0)}
