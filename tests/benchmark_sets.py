"""Small stand-ins for the benchmark sets, written with the real features of TFDS's own builders.

Every image is of one grey level, from which the test model (`GreyModel`) reads the class.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from luab_jax.models import NORMALISATIONS


class GreyModel(nn.Module):
  """Ranks class 4 g first for an image of mean grey level g, then 4 g + 1 and so on."""

  normalisation: str = 'imagenet'

  @nn.compact
  def __call__(self, image, train):
    del train
    mean, std = (jnp.array(values) for values in NORMALISATIONS[self.normalisation])
    if image.dtype != jnp.uint8:  # of the Backgrounds Challenge: composed of two images
      image = (image * std + mean) * 255
    grey = image.astype(jnp.float32).mean((1, 2, 3))
    unused = self.param('unused', nn.initializers.zeros, (1,))
    return {'logits': -jnp.abs(jnp.arange(1000) - 4 * grey[:, None] - 0.1) + unused}


def grey(level, size=(32, 32)):
  """uint8[H, W, 3] of one grey level; JPEG keeps it exactly."""
  return np.full((*size, 3), level, np.uint8)


def write(name, split, examples, data_dir):
  """Writes examples (dicts of the TFDS builder's features) as a split of TFDS's data set `name`."""
  write_as(tfds.builder(name, data_dir=data_dir), {split: examples})


def write_as(builder, splits):
  """Writes {split: examples} as if `builder` had built them."""
  builder.data_path.mkdir(parents=True, exist_ok=True)
  writer = tfds.core.SequentialWriter(builder.info, max_examples_per_shard=1000)
  writer.initialize_splits(list(splits), fail_if_exists=False)
  writer.add_examples(splits)
  writer.close_all()


def labelled(levels_and_labels):
  """Examples with image, label and file_name from pairs (grey level, label)."""
  return [
    {'image': grey(level), 'label': label, 'file_name': f'{i}.JPEG'}
    for i, (level, label) in enumerate(levels_and_labels)
  ]
