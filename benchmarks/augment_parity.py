"""Does our augmentation do what torchvision's v2 transforms do? Exits with status 1 if not.

RandAugment and TrivialAugmentWide: the ranges of all operations, and the pixels of each at the same
magnitude on the same noisy image, up to 2 grey levels (they round differently), both for tensors
and for PIL images, which do not blend the border of a moved image into the black around it. MixUp
and CutMix with the same share and rectangle: the images, rectangles drawn from the same numbers,
and the cross entropy of mixed labels. Batches have two images, which can be paired in only one way.

torch and torchvision are not in requirements-test.txt; an environment as for timm_parity does:

  PYTHONPATH=.:$(echo .venv/lib/python3.*/site-packages) JAX_PLATFORMS=cpu \
    /tmp/venv-timm/bin/python benchmarks/augment_parity.py
"""

import sys

import jax
import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2 as transforms

# After torch: with TensorFlow first, some builds of torch crash.
import tensorflow as tf  # isort: skip

from configs import default
from luab_jax.data import augment
from luab_jax.models import losses
from luab_jax.train import mixing

SIZE, CLASSES = 96, 10
NAMES = {name: name.title().replace('_', '') for name in augment.OPERATIONS}
NAMES['autocontrast'] = 'AutoContrast'


def report(what, good, text):
  print(f'{what:44} {text:64} {"ok" if good else "DIFFERENT"}', flush=True)
  return good


def noisy_image():
  rng = np.random.default_rng(0)
  small = Image.fromarray(rng.integers(0, 255, (6, 7, 3), np.uint8))
  smooth = np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
  return np.clip(smooth + rng.integers(-15, 15, smooth.shape), 0, 255).astype(np.uint8)


def check_ranges(policy, theirs):
  """Compares all magnitudes of all operations."""
  space, size = theirs._AUGMENTATION_SPACE, SIZE
  apart = []
  for row, name in zip(augment.magnitudes(policy, size), augment.OPERATIONS, strict=True):
    function, signed = space[NAMES[name]]
    values = function(augment.MAX_MAGNITUDE + 1, size, size)
    unit = 255 if name == 'solarize' else 1
    apart.append(np.abs(row - (0 if values is None else unit * np.asarray(values))).max())
    apart.append(float(signed != (name in augment.SIGNED)))
  return report(
    f'{policy}: {len(space)} operations, 31 magnitudes',
    len(space) == len(augment.OPERATIONS) and max(apart) < 1e-4,
    f'largest difference {max(apart):.1e}',
  )


def check_operation(policy, theirs, name, values):
  """Compares the pixels of an operation."""
  image = noisy_image()
  pictures = {
    'PIL': Image.fromarray(image),
    'tensors': torch.from_numpy(image.transpose(2, 0, 1).copy()),
  }
  inside = np.s_[2:-2, 2:-2]
  apart = {kind: [] for kind in pictures}
  for value in values:
    ours, _, _ = augment.apply(name, tf.constant(value, tf.float32), image, *_no_points())
    for kind, picture in pictures.items():
      expected = theirs._apply_image_or_video_transform(
        picture,
        NAMES[name],
        value / 255 if name == 'solarize' else value,
        transforms.InterpolationMode.BILINEAR,
        {type(picture): None, torch.Tensor: None, Image.Image: None},
      )
      expected = np.asarray(expected if kind == 'PIL' else expected.permute(1, 2, 0), int)
      apart[kind].append(np.abs(np.asarray(ours, int) - expected)[inside])
  shares = {kind: np.mean(np.stack(levels) <= 2) for kind, levels in apart.items()}
  return report(
    f'{policy}: {name}',
    shares['PIL'] > 0.98 and shares['tensors'] > 0.9999,
    ', '.join(f'{kind}: {share:.2%} within 2 grey levels' for kind, share in shares.items()),
  )


def _no_points():
  return tf.zeros([1, 2]), tf.zeros([1])


def check_rectangles():
  """Compares CutMix rectangles from the same share and centre."""
  rng, different = np.random.default_rng(0), 0
  theirs = transforms.CutMix(num_classes=CLASSES)
  for _ in range(300):
    share, (y, x) = rng.random(), rng.integers(0, SIZE, 2)
    centre = iter((x, y))
    theirs._dist.sample = lambda _, share=share: torch.tensor(np.float32(share))
    drawn, torch.randint = torch.randint, lambda *_, c=centre, **__: torch.tensor([int(next(c))])
    try:
      params = theirs.make_params([torch.zeros(2, 3, SIZE, SIZE)])
    finally:
      torch.randint = drawn
    x1, y1, x2, y2 = params['box']
    expected = np.ones((SIZE, SIZE))
    expected[y1:y2, x1:x2] = 0
    ours = np.asarray(mixing.cut_map(np.float32(share), np.array([y, x]), SIZE))
    different += int((ours != expected).any() or abs(ours.mean() - params['lam_adjusted']) > 1e-6)
  return report('CutMix: 300 rectangles', not different, f'{different} differ')


def check_mix(kind):
  """Compares images and class loss of mixed batches of two."""
  config = default.get_config()
  config.data[f'{kind.lower()}_alpha'] = 1.0
  theirs, apart = getattr(transforms, kind)(num_classes=CLASSES), {'images': 0.0, 'loss': 0.0}
  for step in range(20):
    rng = np.random.default_rng(step)
    batch = {
      'image': rng.random((2, SIZE, SIZE, 3), np.float32),
      'label': rng.integers(0, CLASSES, 2).astype(np.int32),
      'point': np.zeros((2, 1, 2), np.float32),
      'point_mask': np.zeros((2, 1), np.float32),
      'example_mask': np.ones(2, np.float32),
    }
    ours = jax.device_get(mixing.mix(config, batch, step))
    share = float(ours['example_mask'][0])
    same = (ours['image'] == batch['image']).all(axis=(0, -1))
    rows, columns = np.nonzero(~same.all(axis=1))[0], np.nonzero(~same.all(axis=0))[0]
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (0, 0, 0, 0)
    theirs.make_params = lambda _, p={'lam': share, 'lam_adjusted': share, 'box': box}: p
    image, label = theirs(
      torch.from_numpy(batch['image'].transpose(0, 3, 1, 2).copy()),
      torch.from_numpy(batch['label']).long(),
    )
    logits = rng.normal(size=(2, CLASSES)).astype(np.float32)
    loss = sum(
      losses.classification_sum(logits, t['label'], t['example_mask'], multi_label=False)[0]
      for t in (ours, ours['partner'])
    )
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), label, reduction='sum')
    difference = np.abs(ours['image'] - image.permute(0, 2, 3, 1).numpy()).max()
    apart = {
      'images': max(apart['images'], float(difference)),
      'loss': max(apart['loss'], abs(float(loss) - float(expected))),
    }
  text = ', '.join(f'{key} {value:.1e}' for key, value in apart.items())
  return report(f'{kind}: 20 batches', max(apart.values()) < 1e-5, f'largest difference: {text}')


def main():
  """Runs all checks."""
  print(f'torchvision {torchvision.__version__}, torch {torch.__version__}')
  good = []
  for policy, theirs in (
    ('randaugment', transforms.RandAugment()),
    ('trivial', transforms.TrivialAugmentWide()),
  ):
    good.append(check_ranges(policy, theirs))
    for row, name in zip(augment.magnitudes(policy, SIZE), augment.OPERATIONS, strict=True):
      values = row[[0, 9, 20, 30]]
      values = [*values, *-values] if name in augment.SIGNED else values
      good.append(check_operation(policy, theirs, name, values))
  good += [check_rectangles(), check_mix('MixUp'), check_mix('CutMix')]
  sys.exit(int(not all(good)))


if __name__ == '__main__':
  main()
