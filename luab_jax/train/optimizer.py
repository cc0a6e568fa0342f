"""The optimizer, and what changes with the step: learning rate and weight of the point loss."""

from typing import NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models import Params
from luab_jax.models.losses import point_weight_schedule


class Schedules(NamedTuple):
  """Pure functions of the step.

  Attributes:
    learning_rate: of the optimizer.
    point_weight: λ, the weight of the point loss.
  """

  learning_rate: optax.Schedule
  point_weight: optax.Schedule


def make_schedules(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> Schedules:
  """The schedules of an experiment that trains for `total_steps`.

  Raises:
    UserError: a wrong option in `config.loss`.
  """
  return Schedules(
    learning_rate_schedule(config.optimizer, total_steps, steps_per_epoch),
    point_weight_schedule(
      config.loss.point_schedule,
      config.loss.point_weight,
      total_steps=total_steps,
      warmup_steps=config.loss.point_warmup_steps,
    ),
  )


def learning_rate_schedule(
  optimizer: ConfigDict, total_steps: int, steps_per_epoch: float
) -> optax.Schedule:
  """Linear warm-up from 0, then a cosine to 0 at `total_steps` (the field's standard recipe)."""
  warmup = min(round(optimizer.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
  return optax.schedules.warmup_cosine_decay_schedule(
    init_value=0.0 if warmup else optimizer.learning_rate,
    peak_value=optimizer.learning_rate,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
  )


def weight_decay_mask(params: Params) -> Params:
  """True for the kernels alone: biases, norms, tokens and position embeddings do not decay."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf.ndim > 1 and path[-1].key == 'kernel', params
  )


def make_optimizer(
  optimizer: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
  """Builds SGD with Nesterov momentum or AdamW from `config.optimizer`.

  SGD adds the decay to the gradient before the momentum (as PyTorch does); AdamW decouples it.

  Raises:
    UserError: unknown optimizer name.
  """
  steps = []
  if optimizer.grad_clip_norm:
    steps.append(optax.clip_by_global_norm(optimizer.grad_clip_norm))
  if optimizer.name == 'sgd':
    steps.append(optax.add_decayed_weights(optimizer.weight_decay, mask=weight_decay_mask))
    steps.append(optax.sgd(learning_rate, momentum=optimizer.momentum, nesterov=True))
  elif optimizer.name == 'adamw':
    steps.append(
      optax.adamw(
        learning_rate,
        b1=optimizer.beta1,
        b2=optimizer.beta2,
        weight_decay=optimizer.weight_decay,
        mask=weight_decay_mask,
      )
    )
  else:
    raise UserError(f"optimizer.name={optimizer.name!r} is unknown: use 'sgd' or 'adamw'")
  return optax.chain(*steps)
