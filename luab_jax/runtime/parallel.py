"""Replicated state and sharded batches on the local devices: the only file that uses `jax.pmap`.

A step is written as a per-device SPMD function that reduces over the named axis `AXIS`; this file
maps it over the devices with `jax.pmap` or, once that is removed, `jax.shard_map`: see `map_step`.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from luab_jax.errors import UserError

AXIS = 'batch'
Tree = Any  # a pytree of arrays


def check_batch_size(batch_size: int, grad_accum_steps: int = 1) -> None:
  """Raises UserError unless the global batch divides evenly over devices and micro-batches."""
  divisor = jax.device_count() * grad_accum_steps
  if batch_size % divisor:
    raise UserError(
      f'batch_size={batch_size} is not divisible by {jax.device_count()} devices'
      + (f' x {grad_accum_steps} gradient accumulation steps' if grad_accum_steps > 1 else '')
      + f'; try --config.batch_size={-(-batch_size // divisor) * divisor}'
    )


def pmap_step(step: Callable, donate_state: bool = False) -> Callable:
  """Maps a per-device `step(state, batch)` over all devices with the axis name `AXIS`.

  Args:
    step: function of one device's state and batch; it reduces over `AXIS` what has to be global.
    donate_state: reuse the memory of the first argument for the result.

  Returns:
    A function of a replicated state and a sharded batch (leaves [local devices, ...]).
  """
  return jax.pmap(step, axis_name=AXIS, donate_argnums=_donated(donate_state))


def shard_map_step(
  step: Callable, donate_state: bool = False, devices: Sequence[jax.Device] | None = None
) -> Callable:
  """Like `pmap_step` but with `jax.shard_map`: same arguments, results and axis.

  `check_vma` is off on purpose: with it, the gradient of replicated parameters is already summed
  over the devices, and the step's own psum would count it once per device. Single-process only:
  several hosts would have to pass global arrays, which `shard` and `replicate` do not create.

  Args:
    step, donate_state: see `pmap_step`.
    devices: one per row of the leaves of state and batch; None: all.
  """

  def per_device(state: Tree, batch: Tree) -> Tree:
    state, batch = jax.tree.map(lambda leaf: leaf[0], (state, batch))
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf)[None], step(state, batch))

  mapped = jax.shard_map(
    per_device,
    mesh=jax.sharding.Mesh(np.array(devices or jax.devices()), (AXIS,)),
    in_specs=jax.sharding.PartitionSpec(AXIS),
    out_specs=jax.sharding.PartitionSpec(AXIS),
    check_vma=False,
  )
  return jax.jit(mapped, donate_argnums=_donated(donate_state))


def _donated(donate_state: bool) -> tuple[int, ...]:
  return (0,) if donate_state else ()


# How all steps are mapped. Once jax.pmap is removed, this becomes shard_map_step.
map_step = pmap_step


def _sharding() -> jax.sharding.NamedSharding:
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def replicate(tree: Tree) -> Tree:
  """Copies every leaf to all local devices: [...] becomes [local devices, ...]."""
  devices = jax.local_device_count()
  sharding = _sharding()

  def copy(leaf: Any) -> jax.Array:
    leaf = np.asarray(leaf)
    return jax.device_put(np.broadcast_to(leaf[None], (devices, *leaf.shape)), sharding)

  return jax.tree.map(copy, tree)


def fetch(tree: Tree) -> Tree:
  """Host copies (numpy) of a replicated tree, taken from the first local device."""
  # Views of the first device's buffers, all requested at once; indexing the sharded arrays would
  # start one gather per leaf.
  local = jax.device_get(jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))
  # Copied because on CPU the view shares memory with a buffer that the next step donates.
  return jax.tree.map(lambda leaf: np.array(leaf[0]), local)


def fetch_examples(tree: Tree) -> Tree:
  """Host copies of this host's examples: [local devices, B / devices, ...] becomes [B, ...].

  They are in the order of the batch passed to `shard`. Waits for the devices.
  """

  def rows(leaf: jax.Array) -> np.ndarray:
    shards = {shard.device: shard.data for shard in leaf.addressable_shards}
    return np.concatenate([np.asarray(shards[device])[0] for device in jax.local_devices()])

  return jax.tree.map(rows, tree)


def shard(batch: Tree, sharding: jax.sharding.Sharding | None = None) -> Tree:
  """Puts a host's batch on its devices: [B, ...] becomes [local devices, B / devices, ...]."""
  devices = jax.local_device_count()
  sharding = sharding or _sharding()
  return jax.tree.map(
    lambda x: jax.device_put(x.reshape((devices, x.shape[0] // devices, *x.shape[1:])), sharding),
    batch,
  )


def stack_batches(batches: list[Tree]) -> Tree:
  """Stacks N sharded batches: [local devices, b, ...] each becomes [local devices, N, b, ...]."""
  return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves, axis=1), *batches)


def prefetch(batches: Iterable[Tree], size: int = 2) -> Iterator[Tree]:
  """Yields sharded batches, with `size` of them in transfer to the devices.

  Args:
    batches: dicts of numpy arrays [B, ...].
    size: how many batches are transferred ahead; `device_put` returns at once, so that the next
      batch is copied while the step runs on the current one.
  """
  sharding = _sharding()
  queue: collections.deque = collections.deque()
  for batch in batches:
    queue.append(shard(batch, sharding))
    if len(queue) > size:
      yield queue.popleft()
  while queue:
    yield queue.popleft()
