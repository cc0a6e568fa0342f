"""The Predictor returns points in coordinates of the original image, whatever its view."""

import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.data import geometry
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import Predictor
from tests.painted_data import config as data_config
from tests.painted_data import paint

pytestmark = pytest.mark.slow


class DotFinder:
  """A stand-in for a model: it predicts the centre of the bright pixels of each image."""

  traced = 0

  def apply(self, variables, image, train):
    assert not train and image.dtype == jnp.uint8
    DotFinder.traced += 1
    weight = jnp.maximum(image.astype(jnp.float32).mean(-1) - 76, 0)
    weight = weight / weight.sum((1, 2), keepdims=True)
    height, width = image.shape[1:3]
    x = (weight.sum(1) * (jnp.arange(width) + 0.5) / width).sum(-1)
    y = (weight.sum(2) * (jnp.arange(height) + 0.5) / height).sum(-1)
    return {
      'logits': jnp.stack([x, y], -1),
      'points': jnp.stack([x, y], -1)[:, None],
      'cam': jnp.zeros((len(image), 2, 2, 2)),
      'attention': weight[..., None],
    }


@pytest.fixture(scope='module')
def finder():
  data = data_config('', 'none/none', image_size=64, eval_resize=80)
  return Predictor(
    DotFinder(),
    {'params': {'head': {'attention': 0.0}}},
    data=data,
    class_names=['a', 'b'],
    multi_label=False,
    batch_size=4,
  )


def test_points_come_back_to_the_pixels_of_the_image(finder):
  """In images of any shape: portrait, landscape, smaller and larger than the model's input."""
  rng = np.random.default_rng(0)
  images, dots = [], []
  for height, width in [(90, 240), (240, 90), (64, 64), (301, 200), (40, 55), (480, 640)] * 2:
    # Well inside the centre crop: 0.8 of the shorter side.
    reach = 0.5 * 0.8 * min(height, width) - 6 * max(1, min(height, width) / 80)
    dot = np.array([width, height]) / 2 + rng.uniform(-reach, reach, 2)
    dots.append(dot)
    images.append(
      paint(height, width, [dot / [width, height]], radius=4.0 * max(1, min(height, width) / 80))
    )
  DotFinder.traced = 0
  found = finder(images)
  assert DotFinder.traced == 1 and len(found) == 12  # three batches, one compilation
  for image, dot, result in zip(images, dots, found, strict=True):
    height, width = image.shape[:2]
    np.testing.assert_allclose(result['points'], [dot], atol=1)
    np.testing.assert_allclose(
      result['points_fraction'], [dot / [width, height]], atol=1 / min(width, height)
    )
    x0, y0, x1, y1 = result['view'] * np.array([width, height] * 2)
    # The view is a square of 64 / 80 of the shorter side, in the middle.
    np.testing.assert_allclose([x1 - x0, y1 - y0], 0.8 * min(height, width), rtol=0.02)
    np.testing.assert_allclose([x0 + x1, y0 + y1], [width, height], atol=1 + max(image.shape) / 80)


def test_it_undoes_what_the_pipeline_does_to_points():
  points = np.random.default_rng(1).uniform(0.3, 0.7, (5, 2)).astype(np.float32)
  window = geometry.Window(7, 3, 60, 50)
  moved, mask = geometry.move_points(points, np.ones(5), (90, 70), window)
  assert mask.numpy().all()
  np.testing.assert_allclose(geometry.points_in_image(moved, (90, 70), window), points, atol=1e-6)


@pytest.mark.parametrize(
  'bad', [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), 'a.jpg', np.zeros((2, 400, 3), np.uint8)]
)
def test_other_arrays_are_refused(finder, bad):
  with pytest.raises(UserError, match='image 1 '):
    finder([np.zeros((8, 8, 3), np.uint8), bad])
