"""Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), as timm's vit_*_patch16_224.

Class token and learned position embeddings (or, as in big_vision, neither), pre-norm blocks,
LayerNorm with epsilon 1e-6, exact GELU, a fused qkv projection with bias; initialised as in timm
for training from scratch.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.drop import depth_rates, drop_path
from luab_jax.models.heads import torch_uniform

# timm's trunc_normal_(std=0.02) truncates at ±2, a hundred standard deviations: a plain normal.
normal_002 = nn.initializers.normal(0.02)


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """softmax(q k / sqrt(d)) v of [B,N,heads,d]: cuDNN for bfloat16 on NVIDIA GPUs, otherwise XLA.

  XLA writes the N x N attention weights to memory. cuDNN does not, which makes a training step of
  ViT-S/16 1.5 times as fast on an H200 (benchmarks/NOTES.md).
  """
  if not _has_cudnn_attention(query.dtype):
    return jax.nn.dot_product_attention(query, key, value)
  batch, tokens = query.shape[:2]
  # cuDNN refused 197 tokens; padding to 200 and masking the last three is equivalent.
  padding = (0, 0), (0, -tokens % 8), (0, 0), (0, 0)
  query, key, value = (jnp.pad(x, padding) for x in (query, key, value))
  lengths = jnp.full((batch,), tokens, jnp.int32)
  y = jax.nn.dot_product_attention(
    query,
    key,
    value,
    query_seq_lengths=lengths,
    key_value_seq_lengths=lengths,
    implementation='cudnn',
  )
  return y[:, :tokens]


def _has_cudnn_attention(dtype: jnp.dtype) -> bool:
  """Whether cuDNN's attention, which needs 16 bits and compute capability 8.0, runs here."""
  device = jax.devices()[0]
  capability = str(getattr(device, 'compute_capability', ''))  # '9.0'; on an AMD GPU 'gfx942'
  return dtype == jnp.bfloat16 and capability[:1].isdigit() and float(capability) >= 8


class EncoderBlock(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), with an MLP four times as wide as x.

  Attributes:
    num_heads: attention heads; the width of x must be a multiple of it.
    dtype: compute dtype.
    drop_path: probability that an example skips a branch (stochastic depth).
    number: index of the block in the network.
  """

  num_heads: int
  dtype: Any
  drop_path: float = 0.0
  number: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    batch, tokens, dim = x.shape

    def dense(features: int, name: str) -> nn.Dense:
      return nn.Dense(features, kernel_init=normal_002, dtype=self.dtype, name=name)

    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm1')(x)
    qkv = dense(3 * dim, 'qkv')(y).reshape(batch, tokens, 3, self.num_heads, -1)
    y = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
    y = dense(dim, 'proj')(y.reshape(batch, tokens, dim))
    x = x + drop_path(y, keys, self.drop_path, 2 * self.number)
    y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm2')(x)
    y = nn.gelu(dense(4 * dim, 'fc1')(y), approximate=False)
    return x + drop_path(dense(dim, 'fc2')(y), keys, self.drop_path, 2 * self.number + 1)


def sincos2d(height: int, width: int, dim: int, *, class_token: bool) -> jax.Array:
  """Fixed position embeddings f32[1,N,dim]: sines and cosines of x, then of y.

  As big_vision's posemb_sincos_2d (Beyer et al. 2022, arXiv:2205.01580), which is from MoCo v3;
  `dim` must be a multiple of 4. N = height * width, plus a leading row of zeros for a class token.
  """
  omega = 1e4 ** -(jnp.arange(dim // 4) / (dim // 4 - 1))
  y, x = jnp.mgrid[:height, :width]
  angles = [axis.reshape(-1, 1) * omega for axis in (x, y)]
  grid = jnp.concatenate([f(angle) for angle in angles for f in (jnp.sin, jnp.cos)], axis=1)
  return jnp.pad(grid, ((int(class_token), 0), (0, 0)))[None]


class VisionTransformer(nn.Module):
  """The backbone: everything before the classifier.

  Attributes:
    width: D.
    depth: number of blocks.
    num_heads: attention heads per block.
    patch_size: side of a patch in pixels; both sides of an image must be multiples of it, see
      `models.check_image_size`.
    dtype: compute dtype.
    pool: 'token': a class token; 'gap': the mean of the patch tokens, without a class token.
    positions: 'learned' or 'sincos2d'.
    drop_path: drop probability of the last block; it increases linearly from 0 at the first.
    remat: recompute the activations of each block in the backward pass instead of storing them.

  Returns:
    features [B,h,w,D] in the compute dtype: the patch tokens after the final norm; and f32[B,D]:
    the class token or the mean of the patch tokens, also after the final norm.
  """

  width: int
  depth: int
  num_heads: int
  patch_size: int = 16
  dtype: Any = jnp.float32
  pool: str = 'token'
  positions: str = 'learned'
  drop_path: float = 0.0
  remat: bool = False

  @nn.compact
  def __call__(
    self, image: jax.Array, train: bool, keys: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    del train  # no BatchNorm
    init = torch_uniform(image.shape[-1] * self.patch_size**2)
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
    batch, height, width, _ = patches.shape
    x = self._embed(patches.reshape(batch, -1, self.width), (height, width))
    make = nn.remat(EncoderBlock) if self.remat else EncoderBlock
    for i, rate in enumerate(depth_rates(self.drop_path, self.depth)):
      x = make(self.num_heads, self.dtype, rate, i, name=f'block{i}')(x, keys)
    x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name='norm')(x)
    tokens = x[:, 1:] if self.pool == 'token' else x
    pooled = x[:, 0] if self.pool == 'token' else jnp.mean(x, axis=1, dtype=jnp.float32)
    return tokens.reshape(batch, height, width, self.width), pooled.astype(jnp.float32)

  def _embed(self, patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """[B,h*w,D] -> [B,N,D]: adds position embeddings and, with 'token', a leading class token."""
    class_token, x = self.pool == 'token', patches
    if class_token:
      cls = self.param('cls_token', nn.initializers.normal(1e-6), (1, 1, self.width))
      first = jnp.tile(cls.astype(self.dtype), (patches.shape[0], 1, 1))
      x = jnp.concatenate([first, patches], axis=1)
    if self.positions == 'learned':
      position = self.param('pos_embed', normal_002, (1, x.shape[1], self.width))
    else:
      position = sincos2d(*grid, self.width, class_token=class_token)
    return x + position.astype(self.dtype)
