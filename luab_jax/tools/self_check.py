"""A short proof that this machine can train: one step, and one image through the pipeline's ops."""

import jax
import ml_collections
import numpy as np
import optax
import tensorflow as tf

from luab_jax.data import geometry, image_ops
from luab_jax.data.dataset import DatasetSpec
from luab_jax.errors import UserError
from luab_jax.models import build_model
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import Schedules
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step

_SIZE, _CLASSES, _EXAMPLES = 32, 4, 4  # pixels, classes, examples a device


def check_step() -> str:
  """Trains a tiny net for one step, on all devices of all hosts and on a single one.

  Returns:
    What came out, in words.
  Raises:
    UserError: the loss is not finite, or all devices together do not do what one does.
  """
  model = build_model(
    ml_collections.ConfigDict(
      {
        'name': 'tiny_conv',
        'head': 'spatial',
        'dtype': 'float32',
        'normalisation': 'imagenet',
        'sync_batch_norm': True,
      }
    ),
    num_classes=_CLASSES,
    num_points=1,
    multi_label=False,
  )
  optimizer = optax.sgd(0.1)
  step = make_train_step(
    model,
    optimizer,
    Schedules(optax.constant_schedule(0.1), optax.constant_schedule(1.0)),
    DatasetSpec('self check', list('abcd'), _CLASSES, False, 1, {}),
    ml_collections.ConfigDict(
      {
        'loss': {'label_smoothing': 0.0, 'point_loss': 'smooth_l1', 'smooth_l1_beta': 1.0},
        'optimizer': {'grad_accum_steps': 1, 'ema_decay': 0.0},
        'on_nan': 'stop',
      }
    ),
  )
  state = jax.device_get(init_state(model, optimizer, seed=0, image_size=_SIZE, ema=False))
  whole = _batch(_EXAMPLES * jax.device_count())
  # Every host makes the whole batch, and trains on its own rows.
  rows = _EXAMPLES * jax.local_device_count()
  first = jax.process_index() * rows
  mine = jax.tree.map(lambda leaf: leaf[first : first + rows], whole)
  with jax.default_matmul_precision('float32'):  # or accelerators round differently by shape
    together = parallel.fetch(
      parallel.pmap_step(step)(parallel.replicate(state), parallel.shard(mine))
    )
    # The axis of the devices, of length 1, on one device.
    alone = jax.jit(jax.vmap(step, axis_name=parallel.AXIS))(
      *jax.tree.map(lambda leaf: np.asarray(leaf)[None], (state, whole))
    )
    alone = jax.tree.map(lambda leaf: leaf[0], jax.device_get(alone))
  return _compared(together, alone)


def _batch(size):
  random = np.random.default_rng(0)
  return {
    'image': random.integers(0, 256, (size, _SIZE, _SIZE, 3), np.uint8),
    'label': random.integers(0, _CLASSES, size).astype(np.int32),
    'point': random.random((size, 1, 2), np.float32),
    'point_mask': random.integers(0, 2, (size, 1)).astype(np.float32),
    'example_mask': np.ones(size, np.float32),
  }


def _compared(together, alone):
  """What the steps on all devices and on one came to; see `check_step`."""
  loss, single = (float(sums['loss'][0]) for _, sums in (together, alone))
  count = jax.device_count()
  if not np.isfinite(loss):
    raise UserError(
      f'a training step on {count} device(s) gives the loss {loss}: install jax '
      'again, in one piece with the wheel of this machine'
    )
  pairs = zip(*(jax.tree.leaves(state.params) for state, _ in (together, alone)), strict=True)
  worst = max(float(np.abs(left - right).max()) for left, right in pairs)
  if abs(loss - single) > 1e-3 * abs(single) or worst > 1e-3:
    raise UserError(
      f'a training step on {count} devices gives the loss {loss:.6g} and on one {single:.6g} '
      f'(parameters differ by up to {worst:.2g}): the devices do not work together; try '
      'NCCL_P2P_DISABLE=1 on GPUs, and look at their driver'
    )
  return (
    f'one training step on {count} device(s): loss {loss:.4f}; on one {single:.4f}, '
    f'parameters the same to {worst:.1g}'
  )


def check_pipeline() -> str:
  """Sends a JPEG through tf.data and the pipeline's decoding, cropping and resizing.

  Raises:
    UserError: other pixels came out than went in.
  """
  y, x = np.mgrid[:48, :64]
  image = np.stack([4 * x, 5 * y, 2 * (x + y)], -1).astype(np.uint8)
  window = geometry.Window(8, 16, 32, 40)

  def seen(data):
    cut, size, _ = image_ops.decode_window(data, lambda height, width: window)
    return cut, size, image_ops.resize(cut, (16, 16), 'bilinear')

  data = tf.io.encode_jpeg(image, quality=95)
  cut, size, resized = next(tf.data.Dataset.from_tensors(data).map(seen).as_numpy_iterator())
  off = np.abs(cut.astype(float) - image[8:40, 16:56]).mean()
  if (
    off > 4
    or tuple(size) != (48, 64)
    or resized.shape != (16, 16, 3)
    or (abs(resized.astype(float).mean() - cut.mean()) > 4)
  ):
    raise UserError(
      f'a JPEG comes out of TensorFlow with other pixels (off by {off:.1f} of 255): '
      'install tensorflow-cpu again'
    )
  return f'a JPEG decoded, cropped and resized: pixels off by {off:.1f} of 255'
