"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), as timm's convnext_tiny and convnext_small."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.drop import depth_rates, drop_path
from luab_jax.models.vit import normal_002


def conv(features: int, size: int, stride: int, groups: int, *, dtype: Any, name: str) -> nn.Conv:
  """A convolution with bias: zero-padded to keep the size at stride 1, otherwise unpadded."""
  return nn.Conv(
    features,
    (size, size),
    strides=(stride, stride),
    padding='SAME' if stride == 1 else 'VALID',
    feature_group_count=groups,
    kernel_init=normal_002,
    dtype=dtype,
    name=name,
  )


class Block(nn.Module):
  """x + gamma * mlp(norm(depthwise 7x7(x))).

  Attributes:
    dtype: compute dtype.
    drop_path: probability that an example skips the block (stochastic depth).
    number: index of the block in the network.
  """

  dtype: Any
  drop_path: float = 0.0
  number: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    dim = x.shape[-1]
    y = conv(dim, 7, 1, dim, dtype=self.dtype, name='conv_dw')(x)
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm')(y)
    y = nn.Dense(4 * dim, kernel_init=normal_002, dtype=self.dtype, name='fc1')(y)
    y = nn.gelu(y, approximate=False)
    y = nn.Dense(dim, kernel_init=normal_002, dtype=self.dtype, name='fc2')(y)
    gamma = self.param('gamma', nn.initializers.constant(1e-6), (dim,))
    return x + drop_path(y * gamma.astype(self.dtype), keys, self.drop_path, self.number)


class ConvNeXt(nn.Module):
  """The backbone: everything before the classifier.

  Attributes:
    stage_sizes: blocks in each of the four stages.
    widths: channels in each stage.
    dtype: compute dtype.
    drop_path: drop probability of the last block; it increases linearly from 0 at the first.
    remat: recompute the activations of each block in the backward pass instead of storing them.

  Returns:
    features [B,h,w,D] in the compute dtype, h = H // 32, each cell normalised, and the normalised
    mean of the last grid f32[B,D]. The norm is the one between pooling and classifier in timm.
  """

  stage_sizes: tuple[int, ...]
  widths: tuple[int, ...] = (96, 192, 384, 768)
  dtype: Any = jnp.float32
  drop_path: float = 0.0
  remat: bool = False

  @nn.compact
  def __call__(
    self, image: jax.Array, train: bool, keys: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    del train  # no BatchNorm
    make = nn.remat(Block) if self.remat else Block
    rates = depth_rates(self.drop_path, sum(self.stage_sizes))
    number, x = 0, image
    for stage, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
      norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f'stage{stage}_norm')
      size = 2 if stage else 4
      down = conv(width, size, size, 1, dtype=self.dtype, name=f'stage{stage}_conv')
      x = down(norm(x)) if stage else norm(down(x))
      for block in range(blocks):
        x = make(self.dtype, rates[number], number, name=f'stage{stage}_block{block}')(x, keys)
        number += 1
    norm = nn.LayerNorm(epsilon=1e-6, dtype=jnp.float32, name='norm')
    pooled = norm(jnp.mean(x, axis=(1, 2), dtype=jnp.float32))
    return norm(x).astype(self.dtype), pooled
