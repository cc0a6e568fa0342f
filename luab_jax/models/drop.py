"""Dropout and stochastic depth with one key per example, independent of how a batch is sharded."""

import jax
import jax.numpy as jnp

_HEAD = 1 << 16  # the layer number of dropout, above that of any block


def example_keys(seed: jax.Array, step: jax.Array, first: jax.Array, count: int) -> jax.Array:
  """PRNG keys [count] of the examples first, first + 1, ... of a step's global batch.

  Args:
    seed: PRNG key of the run.
    step: number of the step.
    first: index of the first example in the global batch.
    count: number of examples.
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
    x: [B,...], the output of a residual branch.
    keys: [B], PRNG keys of the examples; None in evaluation.
    rate: probability that an example's branch is zeroed; the others are scaled by 1 / (1 - rate).
    layer: number of the branch; branches are dropped independently.
  """
  if keys is None or not rate:
    return x
  return x * _keep(keys, layer, rate, (1,) * (x.ndim - 1)).astype(x.dtype)


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
  """Dropout of features [B,...,D]; a channel is dropped at all positions of an example at once."""
  if keys is None or not rate:
    return x
  shape = (*(1,) * (x.ndim - 2), x.shape[-1])
  return x * _keep(keys, _HEAD, rate, shape).astype(x.dtype)


def depth_rates(highest: float, depth: int) -> list[float]:
  """Drop probability of each block, linearly from 0 to `highest` in the last (Huang et al.)."""
  return [highest * i / max(depth - 1, 1) for i in range(depth)]
