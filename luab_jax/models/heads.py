"""Heads: they turn a backbone's last feature grid into class logits and K points.

Heads compute in float32 whatever the backbone's dtype: they are cheap, and bfloat16 resolves a
position only to 1/256 of the image.

Both take
  features [B,h,w,D]: the last feature grid;
  pooled f32[B,D]: the backbone's own pooling (the mean over the grid; ViT: or the class token);
and return a dict of float32 arrays with
  logits [B,C];
  points [B,K,2]: (x right, y down) in fractions of the image;
  cam [B,h,w,C]: the class activation maps (Zhou et al. 2016, arXiv:1512.04150), the classifier's
    kernel applied to each cell. A compiled program that does not use them does not compute them.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from luab_jax.models.drop import dropout

Outputs = dict[str, jax.Array]  # of a model, see the docstrings of this module and of the package


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
  """PyTorch's default for weights and biases of a linear layer: uniform in ±1 / sqrt(fan_in)."""
  bound = fan_in**-0.5

  def init(
    key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32
  ) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

  return init


def cell_centres(height: int, width: int) -> jax.Array:
  """f32[height,width,2]: (x, y) of each cell's centre, ((j + 0.5) / width, (i + 0.5) / height)."""
  x = (jnp.arange(width, dtype=jnp.float32) + 0.5) / width
  y = (jnp.arange(height, dtype=jnp.float32) + 0.5) / height
  return jnp.stack(jnp.meshgrid(x, y), axis=-1)


def class_activation(classifier: nn.Dense, features: jax.Array) -> jax.Array:
  """f32[B,h,w,C]: the kernel of a classifier, already called once, applied to each cell."""
  return features.astype(jnp.float32) @ classifier.get_variable('params', 'kernel')


class LinearHead(nn.Module):
  """Two extra outputs per point on the pooled features (the paper's head).

  Attributes:
    num_classes: C.
    num_points: K.
    classifier_init: initializer of the weights, with zero biases; None = PyTorch's default for
      weights and biases of a linear layer.
    dropout: dropout rate of the pooled features in training.
  """

  num_classes: int
  num_points: int
  classifier_init: Callable | None = None
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, features: jax.Array, pooled: jax.Array, keys: jax.Array | None = None
  ) -> Outputs:
    default = torch_uniform(pooled.shape[-1])
    dense = functools.partial(
      nn.Dense,
      kernel_init=self.classifier_init or default,
      bias_init=nn.initializers.zeros if self.classifier_init else default,
    )
    pooled = dropout(pooled.astype(jnp.float32), keys, self.dropout)
    classifier = dense(self.num_classes, name='classifier')
    logits = classifier(pooled)
    points = dense(2 * self.num_points, name='points')(pooled)
    return {
      'logits': logits,
      'points': points.reshape(-1, self.num_points, 2),
      'cam': class_activation(classifier, features),
    }


class SpatialHead(nn.Module):
  """Points are expected positions under attention maps, which also pool the features (ours).

  A 1x1 convolution and a softmax over the grid give K maps; point k is the expected position of
  map k over the cell centres. The classifier's features are pooled with the same maps: with
  `map_per_class` (K = C) the logit of class c with map c, otherwise all logits with the mean of the
  K maps (one click: the map itself; a trace: where the mouse spent its time). The maps start
  uniform, which is average pooling. `pooled` is not used.

  Attributes:
    num_classes: C.
    num_points: K.
    map_per_class: each class has its own map.
    classifier_init: as in LinearHead.
    dropout: dropout rate of the features that the classifier sees.

  Returns, in addition to logits, points and cam:
    map_logits f32[B,h,w,K]: the maps before the softmax;
    attention f32[B,h,w,K]: each map sums to 1 over h, w.
  """

  num_classes: int
  num_points: int
  map_per_class: bool
  classifier_init: Callable | None = None
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, features: jax.Array, pooled: jax.Array, keys: jax.Array | None = None
  ) -> Outputs:
    features = features.astype(jnp.float32)
    batch, height, width, dim = features.shape
    default = torch_uniform(dim)
    classifier = nn.Dense(
      self.num_classes,
      kernel_init=self.classifier_init or default,
      bias_init=nn.initializers.zeros if self.classifier_init else default,
      name='classifier',
    )
    # No bias: a softmax over the grid would cancel it.
    map_logits = nn.Dense(
      self.num_points, use_bias=False, kernel_init=nn.initializers.zeros, name='attention'
    )(features)
    attention = jax.nn.softmax(map_logits, axis=(1, 2))
    points = jnp.einsum('bhwk,hwx->bkx', attention, cell_centres(height, width))
    seen = dropout(features, keys, self.dropout)
    if self.map_per_class:
      # A map sums to 1, so pooling per-cell logits equals classifying each map's pooled feature,
      # without an array [B,C,D].
      logits = jnp.sum(attention * classifier(seen), axis=(1, 2))
    else:
      logits = classifier(jnp.einsum('bhw,bhwd->bd', attention.mean(-1), seen))
    return {
      'logits': logits,
      'points': points,
      'cam': class_activation(classifier, features),
      'map_logits': map_logits,
      'attention': attention,
    }
