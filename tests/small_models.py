"""Models for tests, with variables that need no compilation. Not a test itself."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from configs import default
from luab_jax.models import build_model
from luab_jax.models.tiny import TinyConv
from luab_jax.train.state import TrainState


class OneBlock(TinyConv):
  """Replaces TinyConv where a test spends most of its time compiling."""

  widths: tuple[int, ...] = (48,)


def make(
  name,
  head='linear',
  *,
  target=(10, 1, False),
  dtype='float32',
  sync=False,
  normalisation='imagenet',
  **options,
):
  config = default.get_config().model
  config.update(name=name, head=head, dtype=dtype, normalisation=normalisation, **options)
  config.sync_batch_norm = sync
  classes, points, multi_label = target
  return build_model(config, num_classes=classes, num_points=points, multi_label=multi_label)


def apply(model, variables, image):
  return jax.jit(model.apply, static_argnums=2)(variables, image, False)


def abstract(model, size=224):
  """(shapes of the variables, shapes of the outputs) for two images; computes nothing."""
  image = jnp.zeros((2, size, size, 3))
  outputs, variables = jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), image, False)
  )
  return variables, outputs


def random_variables(model, image, seed=1):
  """Random variables, none at a special initial value such as 0 or 1; does not compile `init`."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, False))
  flat = traverse_util.flatten_dict(shapes, sep='/')
  for name, leaf in flat.items():
    fan_in = np.prod(leaf.shape[:-1]) if name.endswith('kernel') else 25
    value = rng.normal(size=leaf.shape) / fan_in**0.5
    if name.endswith(('scale', 'var')):
      value = 1 + abs(value)
    flat[name] = jnp.asarray(value, leaf.dtype)
  return traverse_util.unflatten_dict(flat, sep='/')


def random_state(experiment):
  """A TrainState of random variables, without a state of the optimizer."""
  size = experiment.config.data.image_size
  variables = random_variables(experiment.model, pictures(1, size))
  parts = {'opt_state': {}, 'ema_params': {}, 'ema_batch_stats': {}}
  return TrainState(np.int32(0), variables['params'], variables['batch_stats'], **parts)


def pictures(batch=2, size=48, seed=2):
  return jax.random.normal(jax.random.key(seed), (batch, size, size, 3))
