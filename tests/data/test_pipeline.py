"""The real image path from TFRecords to batches: pixels against points, order, options, errors."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from luab_jax.data import augment, controls, pipeline, tfrecords
from luab_jax.data.dataset import Source
from tests import painted_data
from tests.painted_data import config, encode, imagenet_example, paint, rows, store

DOTS = 72  # images of the painted set; the label says which one it is
ORDER = 23  # images of the set for questions of order


def steps(batches, count):
  return list(itertools.islice(iter(batches), count))


def grey_levels(image):
  """uint8[..., 3] as 0 ... 1 above the painted background, per channel."""
  return (image.astype(np.float32) - painted_data.BACKGROUND) / (255 - painted_data.BACKGROUND)


@pytest.fixture(scope='session')
def painted(tmp_path_factory):
  """Data sets of painted dots in one data_dir; `points` of 'dots' by label."""
  folder = tmp_path_factory.mktemp('painted')
  rng = np.random.default_rng(5)
  kinds = itertools.cycle(['JPEG', 'JPEG', 'PNG', 'L', 'CMYK', 'BMP'])
  points = rng.uniform(0.02, 0.98, (DOTS, 2)).round(4)
  examples = []
  for i, (point, kind) in enumerate(zip(points, kinds, strict=False)):
    height, width = rng.integers(60, 240, 2)
    image = encode(paint(height, width, [point], radius=3.5), kind)
    examples.append(imagenet_example(i, image, clicks=rows([point]), label=i))
  store(folder, 'dots', painted_data.imagenet_features(DOTS), {'train': examples})

  # Small and quick to decode; the click of image i is at (i + 1) / 32 and so tells who it is.
  examples = [
    imagenet_example(
      i,
      rng.integers(0, 255, (20, 24, 3), np.uint8),
      label=i,
      clicks=rows([((i + 1) / 32, 0.5)] if i % 4 else []),
      trace=rows([(0.1, 0.1), (0.2, 0.2)], times=[1_640_000_000_000 - 2, 1_640_000_000_000 - 1]),
    )
    for i in range(ORDER)
  ]
  store(
    folder,
    'order',
    painted_data.imagenet_features(ORDER),
    {'train': examples, 'validation': examples[:5]},
  )
  return folder, points


@pytest.fixture(scope='session')
def icons(tmp_path_factory):
  """Images with a red, a green and a blue icon of three classes: (folder, {classes: points})."""
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
    # Classes 0 and 1 have an instance, 2 only an icon; class 79 an instance without icon.
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
  """As pixels show a dot in float[S, S]: wholly, in part or not at all; and what the point says."""
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
  [(64, 'bicubic', True, True), (41, 'bilinear', True, False), (64, 'bilinear', False, True)],
)
def test_painted_dots_are_at_the_emitted_points(painted, size, method, antialias, flip):
  folder, _ = painted
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


def test_painted_dots_in_evaluation(painted):
  folder, points = painted
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
  """The three classes of an image, from the two labels or masks that are left; None if unclear."""
  left = set(np.flatnonzero((label + mask) > 0)) - {79}
  fits = [classes for classes in truth if left <= set(classes)]
  return fits[0] if len(fits) == 1 else None


def test_icons_in_evaluation_and_adds_only(icons):
  folder, truth = icons
  whole = {'image_size': 64, 'eval_resize': 64}
  for name, factor, icon_points in (
    ('replayed', 1, 'with_instance'),
    ('replayed', 1, 'all'),
    ('adds_only', 0.5, 'with_instance'),
    ('adds_only', 0.5, 'all'),
  ):
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
        if mask[k]:  # the axis that the square crop left whole is unchanged
          assert abs(point[k, 1 - long] - expected[1 - long]) < 1e-3
          inside += 1
      assert mask.sum() <= 3 and not point[mask == 0].any()
      without_instance += mask[classes[2]]
    assert inside > 60 - 20 * (icon_points == 'with_instance')
    assert (without_instance > 0) == (icon_points == 'all')


# Order and exactness.


def assert_same(left, right):
  for key in left:
    np.testing.assert_array_equal(left[key], right[key])


@pytest.fixture(scope='module')
def run(painted):
  """Function that yields training batches of one run, and its first seven: 2.4 epochs of 23."""
  data = config(painted[0], 'order', image_size=16, eval_resize=16, color_jitter=0.4)

  def batches(num_hosts=1, host=0, **options):
    rows = pipeline.Rows(8, num_hosts, host)
    return pipeline.train_batches(data, pipeline.dataset_spec(data), rows, seed=3, **options)

  return batches, steps(batches(), 7)


@pytest.mark.slow
@pytest.mark.parametrize('num_hosts', [2, 4])
def test_hosts_together_see_what_one_host_sees(run, num_hosts):
  batches, alone = run
  parts = [steps(batches(num_hosts, h), 7) for h in range(num_hosts)]
  for step, batch in enumerate(alone):
    assert_same(batch, {key: np.concatenate([p[step][key] for p in parts]) for key in batch})


@pytest.mark.parametrize('start', [1, 5])
def test_a_resumed_run_goes_on_with_the_same_bytes(run, start):
  batches, whole = run
  for step, batch in enumerate(steps(batches(start_step=start), 7 - start), start):
    assert_same(batch, whole[step])


def test_a_run_starts_anew_whatever_the_global_seed(run):
  batches, whole = run
  tf.random.set_seed(99)
  again = batches()
  assert_same(steps(again, 1)[0], whole[0])
  assert_same(steps(again, 1)[0], whole[0])


def epochs_of_labels(data, *, seed, epochs, batch_size=7, num_examples=ORDER):
  count = -(-epochs * num_examples // batch_size)
  batches = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(batch_size), seed=seed),
    count,
  )
  labels = np.concatenate([b['label'] for b in batches])[: epochs * num_examples]
  return labels.reshape(epochs, num_examples), batches


@pytest.mark.slow
@pytest.mark.parametrize('shuffle_buffer', [1, 5, 10_000])
def test_every_example_once_an_epoch_in_another_order(painted, shuffle_buffer):
  data = config(painted[0], 'order', image_size=16, eval_resize=16, shuffle_buffer=shuffle_buffer)
  one, _ = epochs_of_labels(data, seed=0, epochs=4)
  two, _ = epochs_of_labels(data, seed=1, epochs=4)
  for labels in (*one, *two):
    assert sorted(labels) == list(range(ORDER))
  # Files are shuffled even where the buffer holds one record: six orders of three files.
  distinct = {tuple(labels) for labels in (*one, *two)}
  assert len(distinct) == 8 if shuffle_buffer > 1 else len(distinct) >= 2


@pytest.mark.slow
def test_augmentation_differs_by_seed_epoch_and_position(painted):
  data = config(painted[0], 'order', image_size=16, eval_resize=16)
  seen = {}
  for seed in (0, 1):
    for batch in epochs_of_labels(data, seed=seed, epochs=2, batch_size=ORDER)[1]:
      for label, image in zip(batch['label'], batch['image'], strict=True):
        seen.setdefault(int(label), []).append(image.tobytes())
      # All clicks are at half the height of images of one size: only the windows differ.
      kept = batch['point_mask'][:, 0] > 0
      assert kept.sum() > 3 and len(set(batch['point'][kept, 0, 1])) > kept.sum() / 2
  assert all(len(set(images)) == 4 for images in seen.values())


def test_a_batch_may_be_larger_than_the_data_set(painted):
  data = config(painted[0], 'order', image_size=16, eval_resize=16)
  (batch,) = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(2 * ORDER + 4), seed=0),
    1,
  )
  labels = batch['label']
  assert sorted(labels[:ORDER]) == sorted(labels[ORDER : 2 * ORDER]) == list(range(ORDER))
  assert batch['example_mask'].tolist() == [1] * (2 * ORDER + 4)


def test_subsplits_share_out_the_examples(painted):
  data = config(painted[0], 'order', image_size=16, eval_resize=16, train_split='train[:40%]')
  part = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(9), seed=0)
  trained = np.concatenate([b['label'] for b in steps(part, 2)])
  rest, count = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train[40%:]', pipeline.Rows(5)
  )
  evaluated = np.concatenate([b['label'][b['example_mask'] > 0] for b in rest])
  assert len(set(trained)) == 9 and sorted(trained) == sorted([*set(trained)] * 2)
  assert sorted([*set(trained), *evaluated]) == list(range(ORDER)) and count == 3


@pytest.mark.parametrize(('batch_size', 'num_hosts'), [(8, 1), (8, 4), (100, 4)])
def test_evaluation_covers_everything_once_over_hosts(painted, batch_size, num_hosts):
  data = config(painted[0], 'order', image_size=16, eval_resize=16)
  labels, counts = [], set()
  for host in range(num_hosts):
    batches, count = pipeline.eval_batches(
      data, pipeline.dataset_spec(data), 'train', pipeline.Rows(batch_size, num_hosts, host)
    )
    batches = list(batches)
    counts |= {count, len(batches)}
    for batch in batches:
      assert len(batch['image']) == batch_size // num_hosts
      labels += batch['label'][batch['example_mask'] > 0].tolist()
  assert sorted(labels) == list(range(ORDER)) and counts == {-(-ORDER // batch_size)}


# Options.


def test_spec(painted, icons):
  spec = pipeline.dataset_spec(config(painted[0], 'order'))
  assert spec == (
    'order',
    painted_data.NAMES[:ORDER],
    ORDER,
    False,
    1,
    {'train': ORDER, 'validation': 5},
  )
  assert (
    pipeline.dataset_spec(config(painted[0], 'order', byproduct='trace', trace_points=6)).num_points
    == 6
  )
  spec = pipeline.dataset_spec(config(icons[0], 'icons'))
  assert (spec.num_classes, spec.multi_label, spec.num_points) == (80, True, 80)


def whole_images(folder, **changes):
  """'order' whose crop is the whole 24 x 20, unflipped: emitted points are the recorded ones."""
  return config(
    folder,
    'order',
    image_size=16,
    eval_resize=16,
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.2, 1.2),
    flip=False,
    **changes,
  )


@pytest.mark.slow
def test_traces(painted):
  data = whole_images(painted[0], byproduct='trace', trace_points=3)
  (batch,) = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(ORDER), seed=0), 1
  )
  for label, points, mask in zip(batch['label'], batch['point'], batch['point_mask'], strict=True):
    if label % 4:  # samples at 0 and 1 ms, the click at 2 ms
      np.testing.assert_allclose(
        points, [(0.1, 0.1), (0.2, 0.2), ((label + 1) / 32, 0.5)], atol=1e-5
      )
      assert mask.tolist() == [1, 1, 1]
    else:
      assert not points.any() and not mask.any()


@pytest.mark.slow
@pytest.mark.parametrize('control', ['none', 'shuffled', 'uniform'])
def test_controls_are_fixed_per_image(painted, control):
  data = whole_images(painted[0], control=control)
  labels, batches = epochs_of_labels(data, seed=4, epochs=2, batch_size=ORDER)
  points = [
    dict(zip(labels[i].tolist(), batches[i]['point'][:, 0].tolist(), strict=True)) for i in range(2)
  ]
  for label in range(ORDER):
    np.testing.assert_allclose(points[0][label], points[1][label], atol=1e-6)
    clicked = batches[0]['point_mask'][labels[0].tolist().index(label), 0]
    assert clicked == (label % 4 > 0)
  got = {label: p for label, p in points[0].items() if label % 4}
  true = {label: ((label + 1) / 32, 0.5) for label in got}
  same = [np.allclose(got[label], true[label], atol=1e-5) for label in got]
  if control == 'none':
    assert all(same)
  else:
    assert sum(same) < 5
    permutation = np.allclose(sorted(got.values()), sorted(true.values()), atol=1e-5)
    assert permutation == (control == 'shuffled')
  other = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(ORDER), seed=5), 1
  )[0]
  other = dict(zip(other['label'].tolist(), other['point'][:, 0].tolist(), strict=True))
  assert np.allclose(
    [other[k] for k in range(ORDER)], [points[0][k] for k in range(ORDER)], atol=1e-5
  ) == (control == 'none')
  if control == 'uniform':
    return
  # Evaluation measures against what people really clicked.
  batches, _ = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train', pipeline.Rows(ORDER)
  )
  (batch,) = batches
  for label, point, mask in zip(
    batch['label'], batch['point'][:, 0], batch['point_mask'][:, 0], strict=True
  ):
    if mask:
      width = 24 / 20  # a square out of the middle of 20 x 24
      np.testing.assert_allclose(point, (((label + 1) / 32 - 0.5) * width + 0.5, 0.5), atol=0.04)


def test_shuffled_icons_stay_in_their_class(icons):
  folder, truth = icons
  expected = {}
  for classes, points in truth.items():
    for k, point in zip(classes, points, strict=True):
      expected.setdefault(k, []).append(tuple(point))
  data = config(folder, 'icons', control='shuffled')
  source = Source(data, pipeline.dataset_spec(data), 'train')
  control = controls.make_control(source, tf.constant([1, 2], tf.int64))
  stayed = []
  for index, record in tfrecords.in_order(source.split):
    points, has = source.points(source.parse(record))
    moved, still = control(index, points, has)
    np.testing.assert_array_equal(has, still)
    for k in np.flatnonzero(has):
      assert any(np.allclose(moved[k], p, atol=1e-5) for p in expected[k])
      stayed += [np.allclose(moved[k], points[k])] if len(expected[k]) > 2 else []
  assert len(stayed) > 10 and np.mean(stayed) < 0.7


def test_color_jitter_changes_colours_within_bounds_and_no_points(painted):
  plain = config(painted[0], 'dots', image_size=32, eval_resize=32)
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


def test_augmentation_is_a_function_of_seed_epoch_and_position(painted):
  plain = config(painted[0], 'order', image_size=24, eval_resize=24, byproduct='trace')
  data = plain.copy_and_resolve_references()
  data.update({'augment': 'randaugment', 'augment_ops': 1, 'augment_magnitude': 20})
  data.random_erasing = 0.5
  spec = pipeline.dataset_spec(data)
  before, after = (
    steps(pipeline.train_batches(d, spec, pipeline.Rows(20), seed=3), 2) for d in (plain, data)
  )
  keys, moved = ('image', 'point', 'point_mask'), 0
  for number in range(0, 40, 3):
    step, row = divmod(number, 20)
    plain_example = [before[step][key][row] for key in keys]
    seed = tfrecords.fold(3, 1, *tf.constant(divmod(number, ORDER), tf.int64))
    example = augment.augment(data, *plain_example, tf.random.fold_in(seed, 0))
    example = augment.erase(data, *example, tf.random.fold_in(seed, 1))
    for key, value in zip(keys, example, strict=True):
      np.testing.assert_array_equal(after[step][key][row], value)
    moved += (plain_example[1] != np.asarray(example[1])).any()
  assert 2 < moved < 12


def test_an_icon_moved_out_takes_its_label_along_an_erased_one_does_not(icons):
  def batch(**changes):
    data = config(icons[0], 'icons', image_size=64, eval_resize=64, augment='trivial', **changes)
    batches = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(40), seed=0)
    return steps(batches, 1)[0]

  whole, erased = batch(crop_scale=(1.0, 1.0)), batch(crop_scale=(1.0, 1.0), random_erasing=1.0)
  # Two classes of each image have an icon; those count that an operation left inside.
  np.testing.assert_array_equal(whole['label'][:, :79], whole['point_mask'][:, :79])
  assert 30 < whole['label'][:, :79].sum() < 75
  np.testing.assert_array_equal(erased['label'], whole['label'])
  assert erased['point_mask'].sum() < whole['point_mask'].sum()
