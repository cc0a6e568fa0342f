"""Training steps of small networks, each compiled once per test process. Not a test itself."""

import functools
import types

import jax
import ml_collections
import numpy as np
import optax

from configs import default
from luab_jax.evaluate.steps import make_eval_step
from luab_jax.models import LuabModel
from luab_jax.models.heads import LinearHead, SpatialHead
from luab_jax.models.tiny import TinyConv
from luab_jax.models.vit import VisionTransformer
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import Schedules, make_optimizer
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step
from tests.small_models import random_variables

LOSS = ml_collections.ConfigDict(
  dict(
    label_smoothing=0.0,
    point_loss='smooth_l1',
    smooth_l1_beta=1.0,
    map_loss='gaussian',
    map_sigma=0.2,
  )
)
BATCH = 16


def make_model(name, head, num_classes, num_points, multi_label, drop=0.0):
  """A network of one block: these tests spend most of their time compiling."""
  if head == 'linear':
    head = LinearHead(num_classes, num_points, dropout=drop)
  else:
    head = SpatialHead(num_classes, num_points, multi_label, dropout=drop)
  if name == 'small_conv':
    return LuabModel(TinyConv((8,), axis_name=parallel.AXIS), head)
  return LuabModel(VisionTransformer(16, 1, 2, 8, drop_path=drop), head)


def _start(model, tx, *, ema):
  """A state with random parameters, without compiling `init_state`."""
  shapes = jax.eval_shape(lambda: init_state(model, tx, seed=0, image_size=16, ema=ema))
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  variables = jax.device_get(random_variables(model, np.zeros((1, 16, 16, 3), np.float32)))
  params, batch_stats = variables['params'], variables.get('batch_stats', {})
  return zeros.replace(
    params=params,
    batch_stats=batch_stats,
    ema_params=params if ema else {},
    ema_batch_stats=batch_stats if ema else {},
  )


@functools.cache
def setup(
  name,
  head,
  *,
  multi_label,
  accum=1,
  ema_decay=0.0,
  optimizer='sgd',
  clip=0.0,
  on_nan='stop',
  drop=0.0,
  mixup=0.0,
  cutmix=0.0,
):
  """(state on the host, train step, evaluation step, number of classes, number of points)."""
  num_classes = 5
  num_points = num_classes if multi_label else 1
  spec = types.SimpleNamespace(multi_label=multi_label)
  model = make_model(name, head, num_classes, num_points, multi_label, drop)
  config = default.get_config()
  config.loss.update(LOSS)
  config.on_nan = on_nan
  config.model.drop_path, config.model.dropout = drop, drop
  config.optimizer.name, config.optimizer.weight_decay = optimizer, 0.1
  config.optimizer.grad_clip_norm, config.optimizer.grad_accum_steps = clip, accum
  config.optimizer.ema_decay = ema_decay
  config.data.mixup_alpha, config.data.cutmix_alpha = mixup, cutmix
  schedules = Schedules(*(optax.constant_schedule(value) for value in (0.1, 3.0, 0.5)))
  tx = make_optimizer(config, schedules.learning_rate)
  state = _start(model, tx, ema=bool(ema_decay))
  train_step = make_train_step(model, tx, schedules, spec, config)
  eval_step = make_eval_step(model, spec, LOSS)
  return state, train_step, eval_step, num_classes, num_points


def map_loss(output, batch):
  """f64[B,1]: the `gaussian` map loss of the labels' class activation maps of 2 x 2 cells."""
  maps = np.asarray(output['cam'], np.float64)[np.arange(BATCH), :, :, batch['label']]
  log_maps = (maps - np.log(np.exp(maps).sum((1, 2), keepdims=True))).reshape(BATCH, 4)
  centres = np.array([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)])
  bump = np.exp(-((centres - batch['point']) ** 2).sum(-1) / (2 * LOSS.map_sigma**2))
  return -(bump / bump.sum(-1, keepdims=True) * log_maps).sum(-1, keepdims=True)


def make_batch(num_classes, num_points, multi_label, points='rare'):
  """A batch of noise; the last three examples are padding."""
  rng = np.random.default_rng(0)
  if multi_label:
    label = rng.integers(0, 2, (BATCH, num_classes)).astype(np.float32)
  else:
    label = rng.integers(0, num_classes, BATCH).astype(np.int32)
  mask = np.zeros((BATCH, num_points), np.float32)
  if points == 'rare':
    # All on the first two of eight devices: three on one and one on the other.
    mask.reshape(-1)[:2] = 1
    mask[2, 0] = 1
    mask[3, -1] = 1
  example_mask = np.ones(BATCH, np.float32)
  example_mask[-3:] = 0
  point = rng.random((BATCH, num_points, 2)).astype(np.float32) * mask[..., None]
  image = rng.normal(size=(BATCH, 16, 16, 3)).astype(np.float32)
  return dict(image=image, label=label, point=point, point_mask=mask, example_mask=example_mask)


_mapped = functools.cache(parallel.map_step)  # compiled once for all tests


def run(function, tree, batch, devices, repeat=1, mapped=None):
  """Runs a step on the first `devices` devices and returns host copies of its results."""
  mapped = mapped or _mapped(function)
  tree = jax.tree.map(lambda x: np.stack([np.asarray(x)] * devices), tree)
  batch = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
  for _ in range(repeat):
    tree, sums = mapped(tree, batch)
  for leaf in jax.tree.leaves((tree, sums)):  # all devices hold the same values
    leaf = np.asarray(leaf)
    np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
  return jax.tree.map(lambda x: np.asarray(x)[0], (tree, sums))


def assert_close(left, right, rtol=2e-4, atol=2e-6):
  """Asserts that two trees of arrays are equal up to rounding."""
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), left, right)
