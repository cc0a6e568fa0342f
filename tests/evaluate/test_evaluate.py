"""Evaluation over eight devices with a padded last batch, against plain numpy and scikit-learn."""

import functools

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from configs import quickstart_coco
from luab_jax.data import pipeline
from luab_jax.runtime import parallel
from luab_jax.train.experiment import Experiment
from tests.small_models import random_state


@pytest.fixture(scope='module')
def run(synthetic_coco_ab):
  """(config, results, state) of an untrained model on the synthetic COCO-AB."""
  config = quickstart_coco.get_config()
  config.batch_size = 16
  config.data.data_dir, config.data.train_split = synthetic_coco_ab, 'train'
  config.data.eval_splits = {'validation': 'validation', 'icons': 'train[:45%]'}
  config.data.image_size = config.data.eval_resize = 32
  experiment = Experiment(config)
  state = random_state(experiment)
  results = experiment.evaluate(
    parallel.map_step(experiment.eval_step),
    parallel.replicate(state),
    show_progress=False,
    final=True,
  )
  return config, results, state


def _batch(config, split, **options):
  """{column: all real examples of a split}."""
  batches, _ = pipeline.eval_batches(
    config.data, pipeline.dataset_spec(config.data), split, pipeline.Rows(1), **options
  )
  examples = list(batches)
  return {name: np.concatenate([b[name] for b in examples]) for name in examples[0]}


def _predictions(config, state, split):
  """(outputs, batch) of all real examples, from one call of the model."""
  batch = _batch(config, split)
  model = jax.jit(functools.partial(Experiment(config).model.apply, train=False))
  return jax.device_get(model(state.eval_variables(), batch['image'])), batch


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'examples'), [('validation', 40), ('icons', 43)])
def test_metrics_equal_scikit_learn_on_all_examples_at_once(run, name, examples):
  config, results, state = run
  figures = results[name]
  output, batch = _predictions(config, state, config.data.eval_splits[name])
  assert figures['examples'] == len(batch['image']) == examples
  assert examples % config.batch_size  # otherwise nothing is padded
  occurring = batch['label'].any(0)
  expected = average_precision_score(
    batch['label'][:, occurring], output['logits'][:, occurring], average=None
  )
  assert list(figures['ap_per_class'].values()) == pytest.approx(list(expected), abs=1e-6)
  assert figures['mAP'] == pytest.approx(expected.mean(), abs=1e-6)
  assert figures['classes_without_positives'] == 80 - occurring.sum()
  for group, column, value in (
    ('small', 'size_group', 1),
    ('medium', 'size_group', 2),
    ('with_icon', 'icon_group', 2),
    ('without_icon', 'icon_group', 1),
  ):
    positive = (batch['label'] > 0) & (batch[column] == value)
    if not positive.any():
      assert f'mAP_{group}' not in figures
      continue
    among = [(batch['label'][:, c] == 0) | positive[:, c] for c in range(80)]
    expected = [
      average_precision_score(batch['label'][kept, c], output['logits'][kept, c])
      for c, kept in enumerate(among)
      if positive[:, c].any()
    ]
    assert figures[f'mAP_{group}'] == pytest.approx(np.mean(expected), abs=1e-6)
    assert figures[f'positives_{group}'] == positive.sum()
  assert figures['positives_small'] and 'positives_large' not in figures  # images of 32 px
  assert ('positives_with_icon' in figures) == (name == 'icons')
  boxes = _batch(config, config.data.eval_splits[name], boxes=True, whole=True)
  present = (boxes['box_mask'] > 0).any(1)
  assert figures['images_with_boxes'] == present.sum() > 30
  assert figures['box_targets'] == sum(
    len(np.unique(label[mask > 0]))
    for label, mask in zip(boxes['box_label'], boxes['box_mask'], strict=True)
  )
  assert 0 < figures['maxboxacc_v2_cam'] < 1 and 'top1_loc_cam' not in figures
  if name == 'icons':
    mask = batch['point_mask'] > 0
    distance = np.linalg.norm(output['points'] - batch['point'], axis=-1)[mask]
    assert len(distance) > 20
    assert figures['click_error'] == pytest.approx(distance.mean(), rel=1e-4)
    assert figures['points_used'] == pytest.approx(mask.mean(), rel=1e-5)
  else:
    assert 'click_error' not in figures
