"""Training steps on synthetic batches, LUAB and plain cross entropy, for step, scaling and gpu."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from luab_jax.models import build_model, losses
from luab_jax.models.heads import torch_uniform
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import make_optimizer, make_schedules
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step

CLASSES = 1000


class ClassifierHead(nn.Module):
  """A linear classifier and nothing else: the head of plain training."""

  num_classes: int

  @nn.compact
  def __call__(self, features, pooled, keys):
    init = torch_uniform(pooled.shape[-1])
    dense = nn.Dense(self.num_classes, kernel_init=init, bias_init=init, name='classifier')
    return {'logits': dense(pooled.astype(jnp.float32))}


def make_plain_step(model, optimizer, *, label_smoothing):
  """Returns `step(state, batch) -> (state, sums)` of one device: cross entropy and top-1."""

  def step(state, batch):
    examples = jax.lax.psum(batch['example_mask'].sum(), parallel.AXIS)

    def share_of_loss(params):
      output, updated = model.apply(
        {'params': params, 'batch_stats': state.batch_stats},
        batch['image'],
        train=True,
        mutable=['batch_stats'],
      )
      total, _ = losses.classification_sum(
        output['logits'],
        batch['label'],
        batch['example_mask'],
        multi_label=False,
        label_smoothing=label_smoothing,
      )
      right = (output['logits'].argmax(-1) == batch['label']) * batch['example_mask']
      return total / examples, (updated.get('batch_stats', {}), total, right.sum())

    gradient, (batch_stats, total, right) = jax.grad(share_of_loss, has_aux=True)(state.params)
    gradient, total, right = jax.lax.psum((gradient, total, right), parallel.AXIS)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
      batch_stats=jax.lax.pmean(batch_stats, parallel.AXIS),
    )
    return state, {'loss': (total, examples), 'top1': (right, examples)}

  return step


def make_batch(rows, size, *, seed=0):
  """A host batch as from the input pipeline: noise, with a click in each image."""
  rng = np.random.default_rng(seed)
  return {
    'image': rng.integers(0, 256, (rows, size, size, 3), np.uint8),
    'label': rng.integers(0, CLASSES, rows).astype(np.int32),
    'point': rng.random((rows, 1, 2)).astype(np.float32),
    'point_mask': np.ones((rows, 1), np.float32),
    'example_mask': np.ones(rows, np.float32),
  }


def build(config, kind, *, name=None, dtype=None, size=None):
  """(state on the host, step of one device) of a config's recipe.

  Args:
    config: ml_collections.ConfigDict of an experiment.
    kind: 'plain' (cross entropy), or the head of LUAB: 'linear' or 'spatial'.
    name, dtype, size: replace those of `config.model` and `config.data.image_size`.
  """
  model_config = ml_collections.ConfigDict(config.model.to_dict())
  model_config.head = 'linear' if kind == 'plain' else kind
  model_config.name = name or model_config.name
  model_config.dtype = dtype or model_config.dtype
  model = build_model(model_config, num_classes=CLASSES, num_points=1, multi_label=False)
  schedules = make_schedules(config, 10_000, 1000)
  optimizer = make_optimizer(config, schedules.learning_rate)
  if kind == 'plain':
    model = model.clone(head=ClassifierHead(CLASSES))
    step = make_plain_step(model, optimizer, label_smoothing=config.loss.label_smoothing)
  else:
    spec = types.SimpleNamespace(multi_label=False)
    step = make_train_step(model, optimizer, schedules, spec, config)
  state = init_state(model, optimizer, seed=0, image_size=size or config.data.image_size, ema=False)
  return jax.device_get(state), step


class Training:
  """A step and its state on the first `devices` devices; `run` is what is measured."""

  def __init__(self, state, step, *, devices=1, shard_map=False):
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), (parallel.AXIS,))
    self._sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(parallel.AXIS))
    self._devices = devices
    self._state = jax.device_put(
      jax.tree.map(lambda x: np.stack([np.asarray(x)] * devices), state), self._sharding
    )
    if shard_map:
      self.step = parallel.shard_map_step(step, True, jax.local_devices()[:devices])
    else:
      self.step = parallel.pmap_step(step, donate_state=True)

  def put(self, batch):
    """Splits a host batch over the devices."""
    return jax.device_put(
      jax.tree.map(lambda x: x.reshape(self._devices, -1, *x.shape[1:]), batch), self._sharding
    )

  def compile(self, batch):
    """Compiles the step for batches like this one from `put`; returns the compiled program."""
    self.step = self.step.lower(self._state, batch).compile()
    return self.step

  def run(self, batches):
    """Trains one step on each batch from `put` and waits; returns the number of images."""
    images = 0
    for batch in batches:
      self._state, sums = self.step(self._state, batch)
      images += batch['label'].size
    jax.block_until_ready((self._state, sums))
    return images


def flops(state, step, rows, size):
  """(floating-point operations, bytes moved) of a step, as XLA's cost analysis counts them.

  For the program before optimisation and for one device: a count of the mathematics that is the
  same on every machine. A multiply-add counts as two operations.
  """
  mapped = jax.vmap(step, axis_name=parallel.AXIS)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)), np.asarray(x).dtype),
    (state, make_batch(rows, size)),
  )
  cost = jax.jit(mapped).lower(*shapes).cost_analysis()
  return cost['flops'], cost.get('bytes accessed', float('nan'))
