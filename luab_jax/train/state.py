"""What a training run carries from step to step, and the optimizer that moves it."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from luab_jax.errors import UserError


@flax.struct.dataclass
class TrainState:
  """All that changes during training.

  Attributes:
    step: i32 scalar, optimizer steps done.
    params: f32 parameter tree.
    batch_stats: f32 running statistics of BatchNorm, the same on all devices; {} without any.
    opt_state: optax state.
    ema_params: exponential moving average of `params`; {} when it is off.
  """

  step: Any
  params: Any
  batch_stats: Any
  opt_state: Any
  ema_params: Any

  def eval_variables(self):
    """The Flax variables to evaluate with: the averaged parameters where there are any."""
    return {'params': self.ema_params or self.params, 'batch_stats': self.batch_stats}


def learning_rate_schedule(optimizer, total_steps: int, steps_per_epoch: float):
  """Linear warm-up from 0, then a cosine to 0 at `total_steps` (the field's standard recipe)."""
  warmup = min(round(optimizer.warmup_epochs * steps_per_epoch), max(total_steps - 1, 0))
  return optax.schedules.warmup_cosine_decay_schedule(
    init_value=0.0 if warmup else optimizer.learning_rate,
    peak_value=optimizer.learning_rate,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
  )


def weight_decay_mask(params):
  """True for the kernels alone: biases, norms, tokens and position embeddings do not decay."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf.ndim > 1 and path[-1].key == 'kernel', params
  )


def make_optimizer(optimizer, schedule) -> optax.GradientTransformation:
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
    steps.append(optax.sgd(schedule, momentum=optimizer.momentum, nesterov=True))
  elif optimizer.name == 'adamw':
    steps.append(
      optax.adamw(
        schedule,
        b1=optimizer.beta1,
        b2=optimizer.beta2,
        weight_decay=optimizer.weight_decay,
        mask=weight_decay_mask,
      )
    )
  else:
    raise UserError(f"optimizer.name={optimizer.name!r} is unknown: use 'sgd' or 'adamw'")
  return optax.chain(*steps)


def init_state(model, optimizer, *, seed: int, image_size: int, ema: bool) -> TrainState:
  """The state at step 0, on the host's default device (not replicated).

  Args:
    model: Flax module; `model.init(key, image[1, S, S, 3], train=False)`.
    optimizer: optax transformation.
    seed: the parameters are a function of it alone.
    image_size: S; position embeddings depend on it.
    ema: keep an average of the parameters.
  """

  @jax.jit
  def init(key):
    image = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = model.init(key, image, train=False)
    params = variables['params']
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      opt_state=optimizer.init(params),
      ema_params=params if ema else {},
    )

  return init(jax.random.key(seed))


def check_finite(step, state):
  """Raises UserError if a state on the host has a number that is not finite.

  The loss and gradient of a step are those before its update, so they do not tell.
  """
  if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
    return
  raise UserError(
    f'after step {step} a parameter is not finite, and is not saved: the last good checkpoint '
    'stays. Try a lower --config.optimizer.learning_rate, --config.optimizer.grad_clip_norm=1 or '
    '--config.on_nan=skip'
  )
