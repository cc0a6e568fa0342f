"""The predictions in reports equal the model's outputs and have the boxes of localisation."""

import jax
import numpy as np
import pytest

from luab_jax.data import pipeline
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import samples
from tests.report.untrained import coco_config, initial
from tests.short_run import short_config
from tests.small_models import apply

pytestmark = pytest.mark.slow


def test_predictions_are_those_of_the_model(synthetic_imagenet_ab):
  config = short_config(synthetic_imagenet_ab)
  config.model.head = 'linear'
  run, state = initial(config)
  variables = state.eval_variables()
  predictor = Predictor(
    run.model,
    variables,
    data=config.data,
    batch_size=32,
    class_names=run.spec.class_names,
    multi_label=False,
  )
  found = samples.predictions(predictor, run.spec, 'train[:50%]', 99)
  assert found.image.shape == (48, 32, 32, 3) and found.image.dtype == np.uint8  # not a padded 64
  batch = samples.evaluation_images(config.data, run.spec, 'train[:50%]', 48)
  np.testing.assert_array_equal(found.image, batch.image)
  np.testing.assert_array_equal(found.point, batch.point)
  output = apply(run.model, variables, found.image[:4])
  np.testing.assert_allclose(found.score[:4], jax.nn.softmax(output['logits']), atol=0.01)
  np.testing.assert_allclose(found.predicted[:4], output['points'], atol=0.01)
  # The CAM of the predicted class: its mean over the grid plus the bias is the logit.
  head = variables['params']['head']['classifier']
  best = found.map_class[:4]
  np.testing.assert_array_equal(best, output['logits'].argmax(-1))
  cam = np.einsum('bhwd,db->bhw', output['features'], head['kernel'][:, best])
  np.testing.assert_allclose(
    cam.mean((1, 2)) + head['bias'][best], output['logits'].max(-1), rtol=1e-4
  )
  np.testing.assert_allclose(found.weights[:4], cam - cam.min((1, 2), keepdims=True), atol=0.05)


def test_predictions_have_the_boxes_that_localisation_takes(
  synthetic_imagenet_ab, synthetic_coco_ab
):
  for config, split in (
    (short_config(synthetic_imagenet_ab), 'uncorrelated'),
    (coco_config(synthetic_coco_ab), 'train[:50%]'),
  ):
    experiment, state = initial(config)
    several = experiment.spec.multi_label
    predictor = Predictor(
      experiment.model,
      state.eval_variables(),
      data=config.data,
      batch_size=32,
      class_names=experiment.spec.class_names,
      multi_label=several,
    )
    found = samples.predictions(predictor, experiment.spec, split, 40)
    batches, _ = pipeline.eval_batches(
      config.data, experiment.spec, split, pipeline.Rows(40), boxes=True
    )
    batch = next(iter(batches))
    wanted = batch['box_mask'] > 0
    if several:
      wanted &= batch['box_label'] == found.map_class[:, None]
    assert wanted.any()
    np.testing.assert_array_equal(np.isfinite(found.box).all(-1), wanted)
    np.testing.assert_array_equal(found.box[wanted], batch['box'][wanted])
