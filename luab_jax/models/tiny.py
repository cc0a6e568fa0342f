"""Small convolutional nets (ours) that a laptop trains in minutes on images of 48 px.

XLA's CPU convolutions are slow at full resolution, so a 4 px patchify stem comes first. Each block
of tiny_conv has one 3x3 convolution; the receptive field after three of them is 28 px, less than
the whole image. That is on purpose: if every cell saw the whole image, an attention map would not
have to lie on the object to be useful. But a linear layer on the mean of such cells does not learn
positions. For that there is tiny_deep, with two more stages: the receptive fields of its 3x3 cells,
52 px, are wider than the image, so that each of them includes a border.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.resnet import batch_norm, conv, he_fan_out

PATCH_SIZE = 4  # pixels, of the stem; both sides of an image must be multiples of it


class TinyConv(nn.Module):
  """Patchify stem and residual blocks: three at its resolution, then one for each further stage.

  Attributes:
    widths: channels of each block at the stem's resolution.
    stage_widths: channels of each further block, all with stride 2.
    dtype: compute dtype.
    axis_name: mapped axis over which BatchNorm's batch statistics are averaged; None = per device.

  Returns:
    features [B,h,w,D] in the compute dtype, h = H / 4 / 2^stages, and their mean f32[B,D]. H / 4
    must be a multiple of 2^stages.
  """

  widths: tuple[int, ...] = (48, 48, 64)
  stage_widths: tuple[int, ...] = ()
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
    for i, width in enumerate(self.widths + self.stage_widths):
      stride = 1 if i < len(self.widths) else 2
      y = conv(width, 3, stride, dtype=self.dtype, name=f'block{i}_conv1')(x)
      y = nn.relu(norm(name=f'block{i}_bn1')(y))
      y = conv(width, 1, dtype=self.dtype, name=f'block{i}_conv2')(y)
      y = norm(name=f'block{i}_bn2')(y)
      if stride > 1:
        x = nn.avg_pool(x, (stride, stride), strides=(stride, stride))
      if x.shape[-1] != width:
        x = conv(width, 1, dtype=self.dtype, name=f'block{i}_shortcut')(x)
      x = nn.relu(x + y)
    return x, jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
