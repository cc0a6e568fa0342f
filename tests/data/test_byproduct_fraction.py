"""data.byproduct_fraction: which images keep their byproducts, in training only."""

import numpy as np
import pytest
import tensorflow as tf

from configs import quickstart, quickstart_coco
from luab_jax.data import controls, pipeline, targets, tfrecords
from luab_jax.data.dataset import Source


def _kept(names, share):
  """The file names whose images keep their point."""
  points, has = tf.constant([[0.2, 0.7]]), tf.constant([1.0])
  kept = set()
  for name in names:
    moved, still = targets.subsample_byproducts(points, has, tf.constant(name), share)
    if still.numpy().any():
      np.testing.assert_array_equal(moved, points)
      kept.add(name)
    else:
      assert not moved.numpy().any()
  return kept


def test_a_smaller_share_is_a_subset_of_a_larger_one():
  names = [f'n0{i % 7}/n0{i % 7}_{i}.JPEG' for i in range(1000)]
  shares = [0, 0.1, 0.25, 0.5, 1]
  kept = [_kept(names, share) for share in shares]
  for share, smaller, larger in zip(shares, kept, kept[1:], strict=False):
    assert smaller < larger
    assert len(smaller) == pytest.approx(share * len(names), abs=50)  # 3 standard deviations
  assert not kept[0] and len(kept[-1]) == len(names)
  assert _kept(names[:40], 0.1) == {'n05/n05_5.JPEG'}  # must never change


def _trained_on(data, seed=0):
  """(points [N, K, 2], has [N, K]) that training takes from each record, in image coordinates."""
  source = Source(data, pipeline.dataset_spec(data), 'train')
  control = controls.make_control(source, tfrecords.fold(seed), lambda _, fields: fields)
  rows = tfrecords.in_order(source.split).map(
    lambda index, record: control(index, *source.train_points(source.parse_byproducts(record)))
  )
  return next(rows.batch(source.split.num_examples).as_numpy_iterator())


def _data(module, data_dir, **changes):
  data = module.get_config().data
  data.update(data_dir=data_dir, train_split='train', **changes)
  return data


@pytest.mark.slow
@pytest.mark.parametrize('control', ['none', 'shuffled', 'uniform'])
def test_an_image_keeps_its_click_or_has_none(synthetic_imagenet_ab, control):
  real, all_has = _trained_on(_data(quickstart, synthetic_imagenet_ab))
  data = _data(quickstart, synthetic_imagenet_ab, byproduct_fraction=0.5, control=control)
  points, has = _trained_on(data)
  assert 0.25 * all_has.sum() < has.sum() < 0.75 * all_has.sum() and (has <= all_has).all()
  np.testing.assert_array_equal(_trained_on(data, seed=1)[1], has)  # the same images, any seed
  kept, kept_real = points[has > 0], real[has > 0]
  if control == 'none':
    np.testing.assert_array_equal(kept, kept_real)
  else:
    assert np.mean(kept == kept_real) < 0.5
    # Dropped clicks are not given to other images.
    same_set = np.array_equal(np.sort(kept, axis=0), np.sort(kept_real, axis=0))
    assert same_set == (control == 'shuffled')


def test_an_image_of_several_classes_keeps_all_icons_or_none(synthetic_coco_ab):
  all_has = _trained_on(_data(quickstart_coco, synthetic_coco_ab))[1]
  has = _trained_on(_data(quickstart_coco, synthetic_coco_ab, byproduct_fraction=0.5))[1]
  kept = has.any(axis=1)
  np.testing.assert_array_equal(has[kept], all_has[kept])
  assert 0.25 < kept.mean() < 0.75 and all_has.sum(axis=1).max() > 1


def test_batches_of_training_follow_it_and_those_of_evaluation_do_not(synthetic_imagenet_ab):
  data = _data(quickstart, synthetic_imagenet_ab, byproduct_fraction=0.0)
  batch = next(
    iter(pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(96), seed=0))
  )
  assert not batch['point_mask'].any() and not batch['point'].any()
  batches, _ = pipeline.eval_batches(data, pipeline.dataset_spec(data), 'train', pipeline.Rows(96))
  assert next(iter(batches))['point_mask'].sum() > 48
