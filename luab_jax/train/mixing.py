"""MixUp and CutMix: images of a batch are mixed in pairs on the device; targets stay separate.

MixUp (Zhang et al. 2018, arXiv:1710.09412) shows s times the image plus (1 - s) times its partner,
with s drawn from Beta(alpha, alpha). CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a rectangle
of the partner over the image, centred on a random pixel, with a share of 1 - s of the image's area
and clipped at the border; s is then the share of the image that remains.

As in torchvision's v2 MixUp and CutMix and timm's Mixup(mode='batch'), there is one s and one
rectangle per step, a function of seed and step, for the whole global batch. With both alphas above
0 each step applies one of the two, with probability 1/2 (timm's switch_prob, torchvision's
RandomChoice).

Examples 2i and 2i + 1 of the global batch are partners; torchvision takes the previous example,
timm the batch in reverse. Neighbours share a device whatever the number of devices, so that nothing
is sent between devices and 1, 2, 4 and 8 give the same result. The order of the records is random,
so neighbours are as good as any other pairs.

The loss is s times the loss on the image's targets plus (1 - s) times that on its partner's. For
the classification loss, which is linear in the label, this is the loss on the mixed labels. Points
have the same weights; the image's points under the rectangle are masked, and of its partner's only
those inside it count.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from luab_jax.data.dataset import Batch
from luab_jax.errors import UserError
from luab_jax.models import normalise
from luab_jax.train.state import seed_key

_TARGETS = ('label', 'point', 'point_mask', 'example_mask', 'heatmap')
_MIX = (1 << 32) - 1  # folded into the key of a step; stochastic depth folds in row numbers


def is_on(data: ConfigDict) -> bool:
  """Whether the `data` section of a config turns on MixUp or CutMix."""
  return bool(data.mixup_alpha or data.cutmix_alpha)


def check_pairs(config: ConfigDict) -> None:
  """Raises UserError if a pair would be split between devices."""
  divisor = 2 * jax.device_count()
  if is_on(config.data) and config.batch_size % divisor:
    raise UserError(
      f'data.mixup_alpha and data.cutmix_alpha mix pairs: batch_size={config.batch_size} is not '
      f'a multiple of 2 x {jax.device_count()} devices'
    )


def mix(config: ConfigDict, batch: Batch, step: jax.Array) -> Batch:
  """Mixes one device's shard of a batch.

  Args:
    config: of the experiment; `seed`, `data.mixup_alpha`, `data.cutmix_alpha` (0: off) and
      `model.normalisation` are used.
    batch: see `pipeline`; an even number of examples.
    step: i32 scalar, number of optimizer steps done.

  Returns:
    The batch with mixed images, normalised f32[b,S,S,3]; `example_mask` holds the weights of the
    images' targets, and `partner` the targets of their partners with weights of their own.
  """
  image = batch['image']
  if image.dtype == jnp.uint8:
    image = normalise(image, config.model.normalisation)
  key = jax.random.fold_in(jax.random.fold_in(seed_key(config.seed), step), _MIX)
  share = share_map(key, image.shape[1], config.data.mixup_alpha, config.data.cutmix_alpha)
  weight = share.mean()
  own = {name: batch[name] for name in _TARGETS if name in batch}
  partner = jax.tree.map(_swap, own)
  mixed = share[..., None] * image + (1 - share[..., None]) * _swap(image)
  return {
    **batch,
    'image': mixed,
    **_targets(own, share, weight),
    'partner': _targets(partner, 1 - share, 1 - weight),
  }


def _swap(x: jax.Array) -> jax.Array:
  """[b,...] with neighbours swapped."""
  return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _targets(targets: Batch, visible: jax.Array, weight: jax.Array) -> Batch:
  """The targets of images that have the share `visible` f32[S,S] of each pixel."""
  size = visible.shape[0]
  pixel = jnp.clip((targets['point'] * size).astype(jnp.int32), 0, size - 1)
  seen = visible[pixel[..., 1], pixel[..., 0]] > 0
  return {
    'label': targets['label'],
    'point': targets['point'],
    'point_mask': targets['point_mask'] * seen,
    'example_mask': targets['example_mask'] * weight,
    **({'heatmap': targets['heatmap'] * visible} if 'heatmap' in targets else {}),
  }


def share_map(key: jax.Array, size: int, mixup_alpha: float, cutmix_alpha: float) -> jax.Array:
  """f32[S,S]: the share of each pixel that comes from the image itself, not from its partner.

  Args:
    key: PRNG key of the step, the same on all devices.
    size: S, side of the images in pixels.
    mixup_alpha, cutmix_alpha: see the module's docstring; 0: off.
  """
  choice_key, share_key, box_key = jax.random.split(key, 3)
  alphas = jnp.array([alpha for alpha in (mixup_alpha, cutmix_alpha) if alpha])
  shares = jax.random.beta(share_key, alphas, alphas)
  blend = jnp.full((size, size), shares[0])
  if not cutmix_alpha:
    return blend
  cut = cut_map(shares[-1], jax.random.randint(box_key, (2,), 0, size), size)
  return jnp.where(jax.random.bernoulli(choice_key), blend, cut) if mixup_alpha else cut


def cut_map(share: jax.Array, centre: jax.Array, size: int) -> jax.Array:
  """f32[S,S]: 0 in CutMix's rectangle, 1 elsewhere, as in torchvision's v2 CutMix.

  Args:
    share: f32 scalar, the share of the image that remains if the border clips nothing.
    centre: i32[2], (y, x) of the rectangle's centre in pixels.
    size: S.
  """
  half = (0.5 * jnp.sqrt(1 - share) * size).astype(jnp.int32)
  pixel, low, high = jnp.arange(size), (centre - half)[:, None], (centre + half)[:, None]
  rows, columns = (pixel >= low) & (pixel < high)
  return 1.0 - (rows[:, None] & columns)
