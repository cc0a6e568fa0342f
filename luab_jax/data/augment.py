"""RandAugment, TrivialAugment and random erasing of a training view and its points.

The 14 operations, their ranges, signs and bins are those of torchvision's v2 transforms RandAugment
(Cubuk et al. 2020, arXiv:1909.13719) and TrivialAugmentWide (Müller and Hutter 2021,
arXiv:2103.10158). As in torchvision's reference recipes, interpolation is bilinear and the outside
is black; a shear keeps the top left corner fixed, a rotation the centre.

The operations in GEOMETRIC move the points by the matrix that moves the pixels. A point that leaves
the image is masked, and stays masked even if a later operation would bring it back into view.

Only evaluation batches have boxes and masks of objects, and they are not augmented.

Everything is a function of the seed. TensorFlow ops, eager or inside tf.data.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from luab_jax.data import geometry, image_ops

AUGMENTS = ('none', 'randaugment', 'trivial')
MAX_MAGNITUDE = 30

# Area and width / height of the erased window, after Zhong et al. 2020 (arXiv:1708.04896) and with
# the limits of torchvision's RandomErasing.
_ERASED_AREA, _ERASED_RATIO = (0.02, 0.33), (1 / 3.3, 1 / 0.3)
# ImageNet's mean: torchvision's recipes erase with 0 after normalisation.
_ERASED_COLOUR = (124, 116, 104)

# Image uint8[S, S, 3], or uint8[S, S, 4] with a heat map; points [K, 2]; mask [K].
Example = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _enhance(change: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
  """`change` with the factor 1 + value: (uint8 image, value) -> uint8, truncated as in PIL."""
  return lambda image, value: tf.cast(change(tf.cast(image, tf.float32), 1 + value), tf.uint8)


# (value, size) -> matrix
GEOMETRIC = {
  'shear_x': lambda value, size: geometry.shear_x(value),
  'shear_y': lambda value, size: geometry.shear_y(value),
  'translate_x': lambda value, size: geometry.translate_x(value),
  'translate_y': lambda value, size: geometry.translate_y(value),
  'rotate': geometry.rotate,
}
# (image, value) -> image
_ENHANCE = {
  'brightness': _enhance(image_ops.brightness),
  'color': _enhance(image_ops.saturation),
  'contrast': _enhance(image_ops.contrast),
  'sharpness': _enhance(image_ops.sharpness),
}
PHOTOMETRIC = {
  'identity': lambda image, value: image,
  **_ENHANCE,
  'posterize': image_ops.posterize,
  'solarize': image_ops.solarize,
  'autocontrast': lambda image, value: image_ops.autocontrast(image),
  'equalize': lambda image, value: image_ops.equalize(image),
}
OPERATIONS = (*GEOMETRIC, *PHOTOMETRIC)
SIGNED = (*GEOMETRIC, *_ENHANCE)  # these take either sign, with equal probability


def augment(
  data: ConfigDict, image: tf.Tensor, points: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
) -> Example:
  """Applies the policy that `data.augment` names: RandAugment, TrivialAugment or none.

  Args:
    data: the `data` part of a config; `augment_ops` and `augment_magnitude` are RandAugment's.
    image: uint8[S, S, 3], or [S, S, 4] with a heat map, which moves but keeps its values.
    points, mask: float32[K, 2] relative to the image, float32[K].
    seed: a stateless seed, int64[2].

  Returns:
    (image, points, mask) of the same shapes and dtypes.
  """
  if data.augment == 'none':
    return image, points, mask
  trivial = data.augment == 'trivial'
  number = 1 if trivial else data.augment_ops
  values = tf.constant(magnitudes(data.augment, data.image_size), tf.float32)
  signed = tf.constant([name in SIGNED for name in OPERATIONS])
  for draws in tf.unstack(tf.random.stateless_uniform([number, 3], seed)):
    operation = tf.cast(draws[0] * len(OPERATIONS), tf.int32)
    drawn = tf.cast(draws[1] * (MAX_MAGNITUDE + 1), tf.int32)
    value = values[operation, drawn if trivial else data.augment_magnitude]
    value = tf.where(signed[operation] & (draws[2] < 0.5), -value, value)
    branches = [functools.partial(apply, name, value, image, points, mask) for name in OPERATIONS]
    image, points, mask = tf.switch_case(operation, branches)
  return image, points, mask


def magnitudes(policy: str, size: int) -> np.ndarray:
  """float64[operations, 31]: the value of each operation at each magnitude.

  At the highest magnitude, for 'randaugment' and 'trivial': shear by 0.3 and 0.99 pixels per pixel,
  translation by 150/331 of the side and 32 pixels, rotation by 30 and 135 degrees, enhancement by
  factors of 1 ± 0.9 and 1 ± 0.99, posterize to 4 and 2 bits, solarize from 0 upwards.

  Args:
    policy: one of AUGMENTS.
    size: S, side of the image in pixels.
  """
  trivial = policy == 'trivial'
  shear, enhanced = (0.99, 0.99) if trivial else (0.3, 0.9)
  shift, turn = (32, 135) if trivial else (150 / 331 * size, 30)
  steps = np.linspace(0, 1, MAX_MAGNITUDE + 1)
  rows = {
    'shear_x': shear * steps,
    'shear_y': shear * steps,
    'translate_x': shift * steps,
    'translate_y': shift * steps,
    'rotate': turn * steps,
    'posterize': np.round(8 - (6 if trivial else 4) * steps),
    'solarize': 255 * (1 - steps),
    **dict.fromkeys(_ENHANCE, enhanced * steps),
  }
  return np.stack([rows.get(name, 0 * steps) for name in OPERATIONS])


def apply(
  name: str, value: tf.Tensor, image: tf.Tensor, points: tf.Tensor, mask: tf.Tensor
) -> Example:
  """Applies one of OPERATIONS with `value`, a signed float32 scalar; the rest as in `augment`."""
  if name in PHOTOMETRIC:
    changed = PHOTOMETRIC[name](image[..., :3], value)
    if image.shape[-1] == 4:
      changed = tf.concat([changed, image[..., 3:]], axis=-1)
    return changed, points, mask
  size = tf.shape(image)[:2]
  matrix = GEOMETRIC[name](value, size)
  return image_ops.transform(image, matrix), *geometry.transform_points(points, mask, size, matrix)


def erase(
  data: ConfigDict, image: tf.Tensor, points: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
) -> Example:
  """With probability `data.random_erasing`, paints over a random window and masks the points in it.

  The window is drawn as in torchvision's RandomErasing, but may fill the height or the width.
  Arguments and result as for `augment`.
  """
  if not data.random_erasing:
    return image, points, mask
  size = [data.image_size] * 2
  chance_seed, window_seed = tf.unstack(tf.random.split(seed))

  def erased() -> Example:
    window = geometry.sample_window(window_seed, *size, scale=_ERASED_AREA, ratio=_ERASED_RATIO)
    colour = (*_ERASED_COLOUR, 0) if image.shape[-1] == 4 else _ERASED_COLOUR
    covered = image_ops.fill(image, window, colour)
    return covered, *geometry.cover_points(points, mask, size, window)

  chosen = tf.random.stateless_uniform([], chance_seed) < data.random_erasing
  return tf.cond(chosen, erased, lambda: (image, points, mask))
