"""What the maps that localisation is measured on consist of."""

import jax
import numpy as np
import pytest

from luab_jax.evaluate.steps import localization_maps
from tests.small_models import apply, make, pictures, random_variables


@pytest.mark.slow
@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize(
  ('name', 'head', 'side', 'cells'),
  [
    ('tiny_conv', 'linear', 16, 16),
    ('tiny_conv', 'spatial', 16, 16),
    ('tiny_vit', 'spatial', 48, 144),
  ],
)
def test_cam_adds_up_to_the_logit(name, head, side, cells, multi_label):
  model = make(name, head, target=(5, 5 if multi_label else 3, multi_label))
  image = pictures(4, side)
  variables = random_variables(model, image)
  output = jax.device_get(apply(model, variables, image))
  label = np.array([0, 1, 4, 1])
  maps = localization_maps(output, label, multi_label=multi_label)
  weight = maps.get('attention', 1 / cells)
  logits = (maps['cam'] * weight).sum((1, 2)) + variables['params']['head']['classifier']['bias'][
    slice(None) if multi_label else label[:, None]
  ]
  expected = output['logits'] if multi_label else output['logits'][np.arange(4), label][:, None]
  np.testing.assert_allclose(logits, expected, atol=1e-5)
  if head == 'spatial':
    np.testing.assert_allclose(maps['attention'].sum((1, 2)), 1, atol=1e-5)
    assert np.ptp(maps['attention']) > 1e-3


@pytest.mark.slow
def test_cam_of_a_vit_with_linear_head_reads_the_patches_with_the_class_tokens_kernel():
  model = make('tiny_vit', target=(5, 1, False))
  variables = random_variables(model, pictures())
  output = jax.device_get(apply(model, variables, pictures()))
  maps = localization_maps(output, np.array([3, 1]), multi_label=False)
  assert maps.keys() == {'cam'} and maps['cam'].shape == (2, 12, 12, 1)
  kernel = np.asarray(variables['params']['head']['classifier']['kernel'])
  for row, label in ((0, 3), (1, 1)):
    np.testing.assert_allclose(
      maps['cam'][row, ..., 0], output['features'][row] @ kernel[:, label], atol=1e-5
    )
  assert np.ptp(maps['cam'], axis=(1, 2)).min() > 0.01  # not uniform
