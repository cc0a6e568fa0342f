"""The optimizer, and the schedules of the learning rate and the loss weights."""

import functools
import re
from typing import Any, NamedTuple

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
    map_weight: the weight of the map loss; None without one.
  """

  learning_rate: optax.Schedule
  point_weight: optax.Schedule
  map_weight: optax.Schedule | None = None


def make_schedules(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> Schedules:
  """The schedules of an experiment that trains for `total_steps`.

  Raises:
    UserError: an invalid option in `config.loss`.
  """
  loss = config.loss
  weight_schedule = functools.partial(
    point_weight_schedule,
    loss.point_schedule,
    total_steps=total_steps,
    warmup_steps=loss.point_warmup_steps,
  )
  return Schedules(
    learning_rate_schedule(config.optimizer, total_steps, steps_per_epoch),
    weight_schedule(loss.point_weight),
    None if loss.map_loss == 'none' else weight_schedule(loss.map_weight),
  )


def learning_rate_schedule(
  optimizer: ConfigDict, total_steps: int, steps_per_epoch: float
) -> optax.Schedule:
  """Linear warm-up from 0, then cosine decay to 0 at `total_steps` (the standard recipe)."""
  warmup = min(round(optimizer.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
  return optax.schedules.warmup_cosine_decay_schedule(
    init_value=0.0 if warmup else optimizer.learning_rate,
    peak_value=optimizer.learning_rate,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
  )


def weight_decay_mask(params: Params) -> Params:
  """True for kernels only: biases, norms, tokens and position embeddings are not decayed."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf.ndim > 1 and path[-1].key == 'kernel', params
  )


def layer_numbers(params: Params) -> Params:
  """The layer number of each parameter: 0 before the first block or stage, then 1, 2, …

  Layers are the blocks of a ViT and the stages of the other models. The head, and a norm before it,
  come after the last layer. As in BEiT (Bao et al. 2022, arXiv:2106.08254) and timm's layer decay.
  """
  patterns = (r'block(\d+)(?:_|$)', r'layer(\d)_\d+$', r'stage(\d)_\w+$')  # ResNets count from 1
  first = 0 if any('layer1_0' in name for name in params['backbone']) else 1

  def number(name: str) -> int | None:
    found = next((m for p in patterns if (m := re.match(p, name))), None)
    return int(found[1]) + first if found else None

  numbers = {name: number(name) for name in params['backbone']}
  last = 1 + max((n for n in numbers.values() if n is not None), default=0)

  def fill(tree: Params, value: int) -> Params:
    return jax.tree.map(lambda _: value, tree)

  layers = {
    name: fill(tree, last if name == 'norm' else numbers[name] or 0)
    for name, tree in params['backbone'].items()
  }
  return {'backbone': layers, 'head': fill(params['head'], last)}


def _rates(params: Params, optimizer: ConfigDict) -> Params:
  """The learning rate of each parameter as a multiple of the scheduled one."""
  numbers = layer_numbers(params)
  last = max(jax.tree.leaves(numbers))

  def rate(path: tuple[Any, ...], number: int) -> float:
    head = optimizer.head_rate if path[0].key == 'head' else 1.0
    return head * optimizer.layer_decay ** (last - number)

  return jax.tree_util.tree_map_with_path(rate, numbers)


def make_optimizer(
  config: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
  """Builds SGD with Nesterov momentum or AdamW from the config of an experiment.

  SGD adds the weight decay to the gradient before the momentum (as PyTorch does); AdamW decouples
  it. With `model.freeze_backbone` the backbone is neither updated nor decayed.

  Raises:
    UserError: unknown optimizer name.
  """
  optimizer = config.optimizer
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
  chain = optax.chain(*steps)
  if config.model.freeze_backbone:
    parts = {'head': chain, 'backbone': optax.set_to_zero()}
    chain = optax.multi_transform(parts, lambda params: {name: name for name in params})
  if optimizer.layer_decay == 1 and optimizer.head_rate == 1:
    return chain

  def scale(updates: Params, _: Params | None) -> Params:
    return jax.tree.map(lambda update, rate: update * rate, updates, _rates(updates, optimizer))

  return optax.chain(chain, optax.stateless(scale))
