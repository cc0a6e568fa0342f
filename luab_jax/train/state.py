"""The training state, which a run carries from step to step."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from luab_jax.errors import UserError
from luab_jax.models import Params, Variables, eval_variables


class TrainState(flax.struct.PyTreeNode):
  """Everything that changes during training.

  Attributes:
    step: i32 scalar, optimizer steps done.
    params: f32 parameter tree.
    batch_stats: f32 running statistics of BatchNorm, the same on all devices; {} without any.
    opt_state: optax state.
    ema_params, ema_batch_stats: exponential moving averages of `params` and `batch_stats`; {} when
      averaging is off.
  """

  step: Any
  params: Params
  batch_stats: Params
  opt_state: Any
  ema_params: Params
  ema_batch_stats: Params

  def eval_variables(self) -> Variables:
    """The Flax variables to evaluate: the averages if there are any."""
    return eval_variables(vars(self))


def init_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  image_size: int,
  ema: bool,
) -> TrainState:
  """The state at step 0, on the host's default device (not replicated).

  Args:
    model: Flax module; `model.init(key, image[1, S, S, 3], train=False)`.
    optimizer: optax transformation.
    seed: a signed 64-bit integer, which alone determines the parameters.
    image_size: S; position embeddings depend on it.
    ema: keep averages of the parameters and of BatchNorm's statistics.
  """

  @jax.jit
  def init(key: jax.Array) -> TrainState:
    image = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = model.init(key, image, train=False)
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=batch_stats,
      opt_state=optimizer.init(params),
      ema_params=params if ema else {},
      ema_batch_stats=batch_stats if ema else {},
    )

  return init(seed_key(seed))


def seed_key(seed: int) -> jax.Array:
  """The PRNG key of a 64-bit seed."""
  # As jax.random.key with x64 enabled; without it, the upper half of the seed would be ignored.
  halves = np.array([seed], np.int64).view(np.uint32)[::-1]
  return jax.random.wrap_key_data(jnp.asarray(halves), impl='threefry2x32')


def check_finite(step: int, state: TrainState) -> None:
  """Raises UserError if a state on the host has a value that is not finite.

  Loss and gradient norm do not show it: a step computes them before it updates the parameters.
  """
  if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
    return
  raise UserError(
    f'after step {step} a parameter is not finite, so nothing is saved: the last good checkpoint '
    'is kept. Try a lower --config.optimizer.learning_rate, --config.optimizer.grad_clip_norm=1 '
    'or --config.on_nan=skip'
  )
