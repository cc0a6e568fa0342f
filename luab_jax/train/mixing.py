"""MixUp and CutMix: images of a batch mixed in pairs, on the device; their targets are kept apart.

MixUp (Zhang et al. 2018, arXiv:1710.09412) shows s times the image plus (1 - s) times its partner,
s drawn from Beta(alpha, alpha). CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a rectangle of
the partner over the image: a share of 1 - s of the picture around a uniform pixel, cut off at the
border; s is then the share of the image that is left.

As torchvision's v2 MixUp and CutMix and timm's Mixup(mode='batch'), one s and one rectangle a step,
f(seed, step), for the whole global batch. With both alphas above 0 a step does one or the other,
with probability 1/2 (timm's switch_prob, torchvision's RandomChoice).

The partner of example 2 i of the global batch is 2 i + 1, and the other way round; torchvision
takes the example before, timm counts from the end. Neighbours share a device whatever their number,
so that nothing is sent between devices and 1, 2, 4 and 8 give the same result; the order of the
records is random, so neighbours are as good as any.

The loss is s times that of the image's targets plus (1 - s) times that of its partner's. In
the class loss, which is linear in the label, that is the loss of the mixed labels. Points go by the
same weights; one that the rectangle hides is masked, and of the partner's only those in it count.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from luab_jax.data.dataset import Batch
from luab_jax.errors import UserError
from luab_jax.models import normalise
from luab_jax.train.state import seed_key

_TARGETS = ('label', 'point', 'point_mask', 'example_mask', 'heatmap')
_MIX = (1 << 32) - 1  # folded into the key of a step; stochastic depth folds in rows of the batch


def is_on(data: ConfigDict) -> bool:
  """Whether a config's `data` part asks for MixUp or CutMix."""
  return bool(data.mixup_alpha or data.cutmix_alpha)


def check_pairs(config: ConfigDict) -> None:
  """Raises UserError where the pairs would not stay on one device each."""
  divisor = 2 * jax.device_count()
  if is_on(config.data) and config.batch_size % divisor:
    raise UserError(
      f'data.mixup_alpha and data.cutmix_alpha mix pairs: batch_size={config.batch_size} is not '
      f'a multiple of 2 x {jax.device_count()} devices'
    )


def mix(config: ConfigDict, batch: Batch, step: jax.Array) -> Batch:
  """Mixes one device's part of a batch.

  Args:
    config: of the experiment; `seed`, `data.mixup_alpha`, `data.cutmix_alpha` (0: without) and
      `model.normalisation` count.
    batch: see `pipeline`; an even number of examples.
    step: i32 scalar, the optimizer steps done.

  Returns:
    The batch with mixed images, normalised f32[b,S,S,3]; `example_mask` holds the weight of the
    image's targets and `partner` the targets of its partner, with weights alike.
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
  """[b,...] with neighbours exchanged."""
  return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _targets(targets: Batch, visible: jax.Array, weight: jax.Array) -> Batch:
  """The targets of images that are seen as far as `visible` f32[S,S] says."""
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
  """f32[S,S]: how much of each pixel is the image's own, and not its partner's.

  Args:
    key: of the step, the same on all devices.
    size: S, side of the images in pixels.
    mixup_alpha, cutmix_alpha: see the module; 0: without.
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
    share: f32 scalar, the share of the image that would be left if the border cut nothing off.
    centre: i32[2], (y, x) of the rectangle in pixels.
    size: S.
  """
  half = (0.5 * jnp.sqrt(1 - share) * size).astype(jnp.int32)
  pixel, low, high = jnp.arange(size), (centre - half)[:, None], (centre + half)[:, None]
  rows, columns = (pixel >= low) & (pixel < high)
  return 1.0 - (rows[:, None] & columns)
