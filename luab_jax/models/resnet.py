"""ResNet v1.5 (He et al. 2016, arXiv:1512.03385), as in torchvision and timm.

"v1.5" means that the stride of a bottleneck block is in its 3x3 convolution. Padding is explicit
and symmetric as in PyTorch: 'SAME' pads strided convolutions asymmetrically, so that converted
weights would see images shifted by a pixel.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.drop import depth_rates, drop_path

# He et al.'s fan-out initialisation for ReLU networks; PyTorch's kaiming_normal_(mode='fan_out').
he_fan_out = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def conv(features: int, size: int, stride: int = 1, *, dtype: Any, name: str) -> nn.Conv:
  """A convolution without bias, zero-padded by size // 2 on each side."""
  return nn.Conv(
    features,
    (size, size),
    strides=(stride, stride),
    padding=[(size // 2, size // 2)] * 2,
    use_bias=False,
    kernel_init=he_fan_out,
    dtype=dtype,
    name=name,
  )


def batch_norm(*, train: bool, dtype: Any, axis_name: str | None) -> Callable[..., nn.BatchNorm]:
  """Returns nn.BatchNorm with PyTorch's constants; statistics are computed and kept in float32.

  One difference remains: PyTorch's running variance has Bessel's correction, Flax's does not (a
  factor of n / (n - 1), n = values per channel).
  """
  return functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=0.9,  # of the old value: PyTorch's momentum=0.1
    epsilon=1e-5,
    dtype=dtype,
    axis_name=axis_name,
  )


class ResidualBlock(nn.Module):
  """A basic (two 3x3) or bottleneck (1x1, 3x3 with the stride, 1x1 to 4 * width) block.

  Attributes:
    width: channels of the inner convolutions.
    stride: stride of the block.
    bottleneck: bottleneck block instead of a basic one.
    zero_init_last: the last BatchNorm's scale starts at 0, so that the block starts as identity.
    dtype: compute dtype.
    axis_name: mapped axis over which BatchNorm's batch statistics are averaged; None = per device.
    drop_path: probability that an example skips the block (stochastic depth).
    number: index of the block in the network.
  """

  width: int
  stride: int
  bottleneck: bool
  zero_init_last: bool
  dtype: Any
  axis_name: str | None
  drop_path: float = 0.0
  number: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, keys: jax.Array | None = None) -> jax.Array:
    norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name)
    if self.bottleneck:
      layers = [(self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1)]
    else:
      layers = [(self.width, 3, self.stride), (self.width, 3, 1)]
    out_width = layers[-1][0]
    shortcut = x
    if self.stride != 1 or x.shape[-1] != out_width:
      shortcut = conv(out_width, 1, self.stride, dtype=self.dtype, name='downsample_conv')(x)
      shortcut = norm(name='downsample_bn')(shortcut)
    for i, (width, size, stride) in enumerate(layers, 1):
      last = i == len(layers)
      zero = last and self.zero_init_last
      x = conv(width, size, stride, dtype=self.dtype, name=f'conv{i}')(x)
      x = norm(scale_init=nn.initializers.zeros if zero else nn.initializers.ones, name=f'bn{i}')(x)
      x = x if last else nn.relu(x)
    return nn.relu(drop_path(x, keys, self.drop_path, self.number) + shortcut)


class ResNet(nn.Module):
  """The backbone: everything before the classifier.

  Attributes:
    stage_sizes: blocks in each of the four stages.
    bottleneck: bottleneck blocks instead of basic ones.
    zero_init_last: see ResidualBlock; True as in timm (torchvision: zero_init_residual).
    dtype: compute dtype.
    axis_name: see ResidualBlock.
    drop_path: drop probability of the last block; it increases linearly from 0 at the first.
    remat: recompute the activations of each block in the backward pass instead of storing them.

  Returns:
    features [B,h,w,D] in the compute dtype, h = ceil(H / 32), and their mean f32[B,D].
  """

  stage_sizes: tuple[int, ...]
  bottleneck: bool
  zero_init_last: bool = True
  dtype: Any = jnp.float32
  axis_name: str | None = None
  drop_path: float = 0.0
  remat: bool = False

  @nn.compact
  def __call__(
    self, image: jax.Array, train: bool, keys: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name)
    x = conv(64, 7, 2, dtype=self.dtype, name='conv1')(image)
    x = nn.relu(norm(name='bn1')(x))
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    make = nn.remat(ResidualBlock, static_argnums=(2,)) if self.remat else ResidualBlock
    rates = depth_rates(self.drop_path, sum(self.stage_sizes))
    number = 0
    for stage, num_blocks in enumerate(self.stage_sizes):
      for block in range(num_blocks):
        x = make(
          width=64 * 2**stage,
          stride=2 if stage > 0 and block == 0 else 1,
          bottleneck=self.bottleneck,
          zero_init_last=self.zero_init_last,
          dtype=self.dtype,
          axis_name=self.axis_name,
          drop_path=rates[number],
          number=number,
          name=f'layer{stage + 1}_{block}',
        )(x, train, keys)
        number += 1
    return x, jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
