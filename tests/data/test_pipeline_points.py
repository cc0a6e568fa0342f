"""Pixels against points: every point of a batch lies on the dot that was painted there."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from luab_jax.data import controls, pipeline, tfrecords
from luab_jax.data.dataset import Source
from tests import painted_data
from tests.painted_data import config, encode, imagenet_example, paint, rows, store

DOTS = 72  # images of 'dots'; the label identifies the image


def steps(batches, count):
  return list(itertools.islice(iter(batches), count))


def grey_levels(image):
  """uint8[..., 3] as 0 ... 1 above the painted background, per channel."""
  return (image.astype(np.float32) - painted_data.BACKGROUND) / (255 - painted_data.BACKGROUND)


@pytest.fixture(scope='session')
def dots(tmp_path_factory):
  """(data_dir, points f64[DOTS, 2] by label) of 'dots': images with one dot each."""
  folder = tmp_path_factory.mktemp('dots')
  rng = np.random.default_rng(5)
  kinds = itertools.cycle(['JPEG', 'JPEG', 'PNG', 'L', 'CMYK', 'BMP'])
  points = rng.uniform(0.02, 0.98, (DOTS, 2)).round(4)
  examples = []
  for i, (point, kind) in enumerate(zip(points, kinds, strict=False)):
    height, width = rng.integers(60, 240, 2)
    image = encode(paint(height, width, [point], radius=3.5), kind)
    examples.append(imagenet_example(i, image, clicks=rows([point]), label=i))
  store(folder, 'dots', painted_data.imagenet_features(DOTS), {'train': examples})
  return folder, points


def test_the_mean_training_point_is_that_of_the_views_that_evaluation_shows(dots):
  folder, _ = dots
  data = config(folder, 'dots')
  spec = pipeline.dataset_spec(data)
  (batch,) = pipeline.eval_batches(data, spec, 'train', pipeline.Rows(DOTS))[0]
  inside = batch['point_mask'] > 0
  assert 0 < (~inside).sum() < DOTS / 2  # the centre crop loses some
  mean = pipeline.EvalSplits(data, spec, pipeline.Rows(1)).mean_point
  np.testing.assert_allclose(mean[0], batch['point'][inside].mean(0), rtol=1e-6)
  # It does not depend on what a run does to its training points.
  data.control, data.byproduct_fraction = 'uniform', 0.1
  changed = pipeline.EvalSplits(data, spec, pipeline.Rows(1)).mean_point
  np.testing.assert_array_equal(mean, changed)


@pytest.fixture(scope='session')
def icons(tmp_path_factory):
  """(data_dir, {classes: points}) of 'icons': images with a red, a green and a blue icon each."""
  folder = tmp_path_factory.mktemp('icons')
  rng = np.random.default_rng(6)
  colours = [(255, 30, 30), (30, 255, 30), (30, 30, 255)]
  examples, truth = [], {}
  for i in range(40):
    height, width = rng.integers(80, 200, 2)
    classes = rng.choice(79, 3, replace=False)
    classes.sort()
    points = rng.uniform(0.03, 0.97, (3, 2)).round(4)
    image = paint(height, width, points, radius=3.0, colours=colours)
    # The first two classes have an instance, the third only an icon, class 79 only an instance.
    examples.append(
      painted_data.coco_example(
        i,
        encode(image, 'PNG'),
        labels=[*classes[:2], 79],
        icons=[(c, *p) for c, p in zip(classes, points, strict=True)],
        actions=[('add', f'class {c}', *(p / 2)) for c, p in zip(classes, points, strict=True)],
      )
    )
    truth[tuple(classes)] = points
  store(folder, 'icons', painted_data.coco_features(), {'train': examples})
  return folder, truth


def check_dot(view, point, mask, found):
  """Compares the dot in a view float[S, S] with its point; counts seen and cropped dots in `found`.

  A dot that is cut by the border is not compared.
  """
  border = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
  dot = painted_data.find_dot(view, threshold=0.4)
  if dot is None:
    assert mask == 0 and point.tolist() == [0, 0]
    found['away'] += 1
  elif border.max() < 0.4:
    assert mask == 1
    assert np.abs(np.array(dot) - point).max() * len(view) < 1
    found['seen'] += 1


@pytest.mark.parametrize(
  ('size', 'method', 'antialias', 'flip'),
  [(41, 'bicubic', True, True), (64, 'bilinear', False, False)],
)
def test_painted_dots_are_at_the_emitted_points(dots, size, method, antialias, flip):
  folder, _ = dots
  data = config(
    folder,
    'dots',
    image_size=size,
    eval_resize=size,
    resize_method=method,
    antialias=antialias,
    flip=flip,
    shuffle_buffer=1000,
  )
  found = {'seen': 0, 'away': 0}
  for batch in steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(DOTS), seed=1), 3
  ):
    assert sorted(batch['label']) == list(range(DOTS))
    for image, point, mask in zip(
      grey_levels(batch['image']).mean(axis=-1), batch['point'], batch['point_mask'], strict=True
    ):
      check_dot(image, point[0], mask[0], found)
  assert found['seen'] > 60 and found['away'] > 40


def test_painted_dots_in_evaluation(dots):
  folder, points = dots
  data = config(folder, 'dots', image_size=64, eval_resize=72)
  batches, count = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train', pipeline.Rows(30)
  )
  found, labels = {'seen': 0, 'away': 0}, []
  for batch in batches:
    assert set(batch) == {'image', 'label', 'point', 'point_mask', 'example_mask'}
    real = batch['example_mask'] > 0
    labels += batch['label'][real].tolist()
    assert not batch['image'][~real].any() and not batch['point_mask'][~real].any()
    for image, point, mask in zip(
      grey_levels(batch['image'][real]).mean(axis=-1),
      batch['point'][real],
      batch['point_mask'][real],
      strict=True,
    ):
      check_dot(image, point[0], mask[0], found)
  assert count == 3 and sorted(labels) == list(range(DOTS))
  assert found['seen'] > 20 and found['away'] > 10


@pytest.mark.parametrize(
  ('policy', 'points'), [('drop_when_icon_cropped', 'all'), ('keep', 'with_instance')]
)
def test_icons_of_eighty_classes_and_their_labels(icons, policy, points):
  folder, truth = icons
  data = config(
    folder, 'icons', image_size=64, eval_resize=64, icon_label=policy, icon_points=points
  )
  found = {'seen': 0, 'away': 0}
  labels = {0.0: 0, 1.0: 0}
  for batch in steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(40), seed=2), 3
  ):
    assert batch['label'].shape == batch['point_mask'].shape == (40, 80)
    assert batch['point'].shape == (40, 80, 2)
    assert not batch['point'][batch['point_mask'] == 0].any()
    assert (batch['label'][:, 79] == 1).all()  # an instance without an icon is never dropped
    for image, label, point, mask in zip(
      grey_levels(batch['image']), batch['label'], batch['point'], batch['point_mask'], strict=True
    ):
      classes = who_is(truth, label, mask)
      if classes is None:
        continue
      regressed = classes if points == 'all' else classes[:2]
      assert not np.delete(mask, regressed).any()
      for channel, k in enumerate(regressed):
        check_dot(image[..., channel], point[k], mask[k], found)
      for k in classes[:2]:
        assert label[k] == (1 if policy == 'keep' else mask[k])
        labels[float(mask[k])] += 1
      assert label[classes[2]] == 0  # an icon without an instance makes no label
  assert found['seen'] > 80 and found['away'] > 30 and min(labels.values()) > 20


def who_is(truth, label, mask):
  """The three classes of an image, from the labels and masks that are left; None if ambiguous."""
  left = set(np.flatnonzero((label + mask) > 0)) - {79}
  fits = [classes for classes in truth if left <= set(classes)]
  return fits[0] if len(fits) == 1 else None


def test_icons_in_evaluation_and_adds_only(icons):
  folder, truth = icons
  whole = {'image_size': 64, 'eval_resize': 64}
  for name, factor, icon_points in (('replayed', 1, 'with_instance'), ('adds_only', 0.5, 'all')):
    data = config(folder, 'icons', icons=name, icon_points=icon_points, **whole)
    (batch, *more) = pipeline.eval_batches(
      data, pipeline.dataset_spec(data), 'train', pipeline.Rows(40)
    )[0]
    assert not more
    inside = without_instance = 0
    for label, point, mask in zip(batch['label'], batch['point'], batch['point_mask'], strict=True):
      assert label.sum() == 3  # evaluation never drops a label
      classes = next(c for c in truth if label[list(c[:2])].all())
      for k, expected in zip(classes, truth[classes] * factor, strict=True):
        long = np.argmax(np.abs(point[k] - expected)) if mask[k] else None
        if mask[k]:  # along the axis that the square crop did not cut, nothing changes
          assert abs(point[k, 1 - long] - expected[1 - long]) < 1e-3
          inside += 1
      assert mask.sum() <= 3 and not point[mask == 0].any()
      without_instance += mask[classes[2]]
    assert inside > 60 - 20 * (icon_points == 'with_instance')
    assert (without_instance > 0) == (icon_points == 'all')


def test_spec_of_icons(icons):
  spec = pipeline.dataset_spec(config(icons[0], 'icons'))
  assert (spec.num_classes, spec.multi_label, spec.num_points) == (80, True, 80)


def test_shuffled_icons_stay_in_their_class(icons):
  folder, truth = icons
  expected = {}
  for classes, points in truth.items():
    for k, point in zip(classes, points, strict=True):
      expected.setdefault(k, []).append(tuple(point))
  data = config(folder, 'icons', control='shuffled')
  source = Source(data, pipeline.dataset_spec(data), 'train')
  control = controls.make_control(source, tf.constant([1, 2], tf.int64), lambda _, fields: fields)
  stayed = []
  for index, record in tfrecords.in_order(source.split):
    points, has = source.points(source.parse(record))
    moved, still = control(index, points, has)
    np.testing.assert_array_equal(has, still)
    for k in np.flatnonzero(has):
      assert any(np.allclose(moved[k], p, atol=1e-5) for p in expected[k])
      stayed += [np.allclose(moved[k], points[k])] if len(expected[k]) > 2 else []
  assert len(stayed) > 10 and np.mean(stayed) < 0.7


@pytest.mark.slow
def test_color_jitter_changes_colours_and_no_points(dots):
  plain = config(dots[0], 'dots', image_size=32, eval_resize=32)
  jittered = plain.copy_and_resolve_references()
  jittered.color_jitter = 0.4
  (before,) = steps(
    pipeline.train_batches(plain, pipeline.dataset_spec(plain), pipeline.Rows(DOTS), seed=0), 1
  )
  (after,) = steps(
    pipeline.train_batches(jittered, pipeline.dataset_spec(jittered), pipeline.Rows(DOTS), seed=0),
    1,
  )
  for key in ('label', 'point', 'point_mask'):
    np.testing.assert_array_equal(before[key], after[key])
  assert before['image'].dtype == after['image'].dtype == np.uint8
  changed = [(a != b).any() for a, b in zip(before['image'], after['image'], strict=True)]
  assert np.mean(changed) > 0.95


@pytest.mark.slow
def test_an_icon_moved_out_takes_its_label_along_an_erased_one_does_not(icons):
  def batch(**changes):
    data = config(icons[0], 'icons', image_size=64, eval_resize=64, crop_scale=(1, 1), **changes)
    batches = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(40), seed=0)
    return steps(batches, 1)[0]

  moved, erased = batch(augment='trivial'), batch(crop_ratio=(0.1, 10), random_erasing=1.0)
  # Two classes of each image have an instance and an icon: their labels follow the icons' masks.
  np.testing.assert_array_equal(moved['label'][:, :79], moved['point_mask'][:, :79])
  assert 30 < moved['label'][:, :79].sum() < 75
  assert erased['label'][:, :79].sum() == 80 > erased['point_mask'].sum()
