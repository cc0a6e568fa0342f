"""What the maps that localisation is measured on consist of."""

import jax
import numpy as np
import pytest


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
  from configs import default
  from luab_jax import models
  from luab_jax.evaluate import steps

  config = default.get_config().model
  config.update(name=name, head=head, dtype='float32')
  points = 5 if multi_label else 3
  model = models.build_model(config, num_classes=5, num_points=points, multi_label=multi_label)
  image = jax.random.normal(jax.random.key(0), (4, side, side, 3))
  variables = model.init(jax.random.key(1), image, train=False)
  if head == 'spatial':  # at initialisation the attention is uniform
    kernel = variables['params']['head']['attention']['kernel']
    variables['params']['head']['attention']['kernel'] = jax.random.normal(
      jax.random.key(2), kernel.shape
    )
  output = model.apply(variables, image, train=False)
  label = np.array([0, 1, 4, 1])
  maps = steps.localization_maps(output, label, multi_label=multi_label)
  weight = maps.get('attention', 1 / cells)
  logits = (maps['cam'] * weight).sum((1, 2)) + variables['params']['head']['classifier']['bias'][
    slice(None) if multi_label else label[:, None]
  ]
  expected = output['logits'] if multi_label else output['logits'][np.arange(4), label][:, None]
  np.testing.assert_allclose(logits, expected, atol=1e-5)
  if head == 'spatial':
    np.testing.assert_allclose(maps['attention'].sum((1, 2)), 1, atol=1e-5)


@pytest.mark.slow
def test_cam_of_a_vit_with_linear_head_reads_the_patches_with_the_class_tokens_kernel():
  from configs import default
  from luab_jax import models
  from luab_jax.evaluate import steps

  config = default.get_config().model
  config.update(name='tiny_vit', head='linear', dtype='float32')
  model = models.build_model(config, num_classes=5, num_points=1, multi_label=False)
  image = jax.random.normal(jax.random.key(0), (2, 48, 48, 3))
  variables = model.init(jax.random.key(1), image, train=False)
  output = jax.device_get(model.apply(variables, image, train=False))
  maps = steps.localization_maps(output, np.array([3, 1]), multi_label=False)
  assert maps.keys() == {'cam'} and maps['cam'].shape == (2, 12, 12, 1)
  kernel = np.asarray(variables['params']['head']['classifier']['kernel'])
  for row, label in ((0, 3), (1, 1)):
    np.testing.assert_allclose(
      maps['cam'][row, ..., 0], output['features'][row] @ kernel[:, label], atol=1e-5
    )
  assert np.ptp(maps['cam'], axis=(1, 2)).min() > 0.01  # not uniform
