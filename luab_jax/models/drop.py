"""Random zeroing with one key per example, so that it does not depend on how a batch is sharded."""

import jax
import jax.numpy as jnp

_HEAD = 1 << 16  # the layer of dropout, beyond any block


def example_keys(seed: jax.Array, step: jax.Array, first: jax.Array, count: int) -> jax.Array:
  """Keys [count] of the examples first, first + 1, ... of the global batch of a step.

  Args:
    seed: key of the run.
    step: of the batch.
    first: place of the first example in the global batch.
    count: of the examples.
  """
  key = jax.random.fold_in(seed, step)
  return jax.vmap(lambda index: jax.random.fold_in(key, index))(first + jnp.arange(count))


def _keep(keys: jax.Array, layer: int, rate: float, shape: tuple[int, ...]) -> jax.Array:
  """[B, *shape]: 1 / (1 - rate) where a value is kept, 0 elsewhere."""

  def draw(key: jax.Array) -> jax.Array:
    return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, shape)

  return jax.vmap(draw)(keys) / (1 - rate)


def drop_path(x: jax.Array, keys: jax.Array | None, rate: float, layer: int) -> jax.Array:
  """Stochastic depth (Huang et al. 2016, arXiv:1603.09382), as timm's DropPath.

  Args:
    x: [B,...], a residual branch.
    keys: of the examples; None in evaluation.
    rate: probability that an example's branch is zero; the others are scaled by 1 / (1 - rate).
    layer: number of the branch; each draws on its own.
  """
  if keys is None or not rate:
    return x
  return x * _keep(keys, layer, rate, (1,) * (x.ndim - 1)).astype(x.dtype)


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
  """Dropout of features [B,...,D]; a feature is dropped at all places of an example alike."""
  if keys is None or not rate:
    return x
  shape = (*(1,) * (x.ndim - 2), x.shape[-1])
  return x * _keep(keys, _HEAD, rate, shape).astype(x.dtype)


def depth_rates(highest: float, depth: int) -> list[float]:
  """Stochastic depth of each block: from 0 linearly to `highest` in the last (Huang et al.)."""
  return [highest * i / max(depth - 1, 1) for i in range(depth)]
