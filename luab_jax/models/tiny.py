"""A small convolutional net (ours) that a laptop trains in minutes on images of 48 px.

XLA's CPU convolutions are slow at full resolution, so a 4 px patchify stem comes first. Each block
has one 3x3 convolution: three of them see 28 px, less than the whole image. That is on purpose:
where every cell sees the whole image, an attention map need not lie on the object to be useful.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.resnet import batch_norm, conv, he_fan_out

PATCH_SIZE = 4  # of the stem, in pixels; both sides of an image must be multiples of it


class TinyConv(nn.Module):
  """Patchify stem and three residual blocks.

  Attributes:
    widths: channels of each block.
    dtype: compute dtype.
    axis_name: mapped axis over which BatchNorm's batch statistics are averaged; None = per device.

  Returns:
    features [B,H/4,W/4,D] in the compute dtype and their mean f32[B,D].
  """

  widths: tuple[int, ...] = (48, 48, 64)
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, image: jax.Array, train: bool, keys: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    del keys  # too small for stochastic depth
    norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name)
    x = nn.Conv(
      self.widths[0],
      (PATCH_SIZE, PATCH_SIZE),
      strides=(PATCH_SIZE, PATCH_SIZE),
      padding='VALID',
      use_bias=False,
      kernel_init=he_fan_out,
      dtype=self.dtype,
      name='stem_conv',
    )(image)
    x = nn.relu(norm(name='stem_bn')(x))
    for i, width in enumerate(self.widths):
      y = conv(width, 3, dtype=self.dtype, name=f'block{i}_conv1')(x)
      y = nn.relu(norm(name=f'block{i}_bn1')(y))
      y = conv(width, 1, dtype=self.dtype, name=f'block{i}_conv2')(y)
      y = norm(name=f'block{i}_bn2')(y)
      if x.shape[-1] != width:
        x = conv(width, 1, dtype=self.dtype, name=f'block{i}_shortcut')(x)
      x = nn.relu(x + y)
    return x, jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
