"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), as timm's vit_*_patch16_224.

Class token, learned position embeddings, pre-norm blocks, LayerNorm with epsilon 1e-6, exact GELU,
a fused qkv projection with bias; initialised as timm initialises for training from scratch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.heads import torch_uniform

# timm's trunc_normal_(std=0.02) cuts at +-2, a hundred standard deviations away: a plain normal.
normal_002 = nn.initializers.normal(0.02)


class EncoderBlock(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), the mlp being four times as wide.

  Attributes:
    num_heads: attention heads; the width of x is a multiple of it.
    dtype: compute dtype.
  """

  num_heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, tokens, dim = x.shape

    def dense(features: int, name: str) -> nn.Dense:
      return nn.Dense(features, kernel_init=normal_002, dtype=self.dtype, name=name)

    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm1')(x)
    qkv = dense(3 * dim, 'qkv')(y).reshape(batch, tokens, 3, self.num_heads, -1)
    y = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    x = x + dense(dim, 'proj')(y.reshape(batch, tokens, dim))
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm2')(x)
    y = nn.gelu(dense(4 * dim, 'fc1')(y), approximate=False)
    return x + dense(dim, 'fc2')(y)


class VisionTransformer(nn.Module):
  """The backbone: everything before the classifier.

  Attributes:
    width: D.
    depth: number of blocks.
    num_heads: attention heads of a block.
    patch_size: side of a patch in pixels; both sides of an image must be multiples of it, see
      `models.check_image_size`.
    dtype: compute dtype.

  Returns:
    features [B,h,w,D] in the compute dtype: the patch tokens after the final norm;
    the class token f32[B,D], likewise.
  """

  width: int
  depth: int
  num_heads: int
  patch_size: int = 16
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, image: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
    del train  # no dropout, no BatchNorm
    batch, _, _, channels = image.shape
    init = torch_uniform(channels * self.patch_size**2)
    patches = nn.Conv(
      self.width,
      (self.patch_size, self.patch_size),
      strides=(self.patch_size, self.patch_size),
      padding='VALID',
      kernel_init=init,
      bias_init=init,
      dtype=self.dtype,
      name='patch_embed',
    )(image)
    grid = patches.shape[1:3]
    num_tokens = 1 + grid[0] * grid[1]
    cls = self.param('cls_token', nn.initializers.normal(1e-6), (1, 1, self.width))
    position = self.param('pos_embed', normal_002, (1, num_tokens, self.width))
    x = jnp.concatenate(
      [jnp.tile(cls.astype(self.dtype), (batch, 1, 1)), patches.reshape(batch, -1, self.width)],
      axis=1,
    )
    x = x + position.astype(self.dtype)
    for i in range(self.depth):
      x = EncoderBlock(self.num_heads, self.dtype, name=f'block{i}')(x)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm')(x)
    return x[:, 1:].reshape(batch, *grid, self.width), x[:, 0].astype(jnp.float32)
