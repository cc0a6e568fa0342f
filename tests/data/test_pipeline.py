"""From TFRecords to batches: which host sees which examples in which order, options, controls."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from luab_jax.data import augment, dataset, pipeline, tfrecords
from luab_jax.errors import UserError
from tests import painted_data
from tests.painted_data import config, imagenet_example, rows, store

ORDER = 23  # images of the data set for tests of the order


def steps(batches, count):
  return list(itertools.islice(iter(batches), count))


@pytest.fixture(scope='session')
def order(tmp_path_factory):
  """data_dir of 'order': small images that decode quickly.

  The click of image i is at x = (i + 1) / 32, which identifies the image.
  """
  folder, rng = tmp_path_factory.mktemp('order'), np.random.default_rng(5)
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
  return folder


# Order and exactness.


def assert_same(left, right):
  for key in left:
    np.testing.assert_array_equal(left[key], right[key])


@pytest.fixture(scope='module')
def run(order):
  """(function that yields the training batches of a run, its first 7: 2.4 epochs of 23)."""
  data = config(order, 'order', image_size=16, eval_resize=16, color_jitter=0.4)

  def batches(num_hosts=1, host=0, **options):
    rows = pipeline.Rows(8, num_hosts, host)
    return pipeline.train_batches(data, pipeline.dataset_spec(data), rows, seed=3, **options)

  return batches, steps(batches(), 7)


@pytest.mark.slow
def test_hosts_together_see_what_one_host_sees(run):
  """A run of one host continues on two hosts within epoch two, into epoch three.

  More hosts and other starts: test_shuffling.py.
  """
  batches, alone = run
  parts = [steps(batches(2, host, start_step=4), 3) for host in range(2)]
  for step, batch in enumerate(alone[4:]):
    assert_same(batch, {key: np.concatenate([p[step][key] for p in parts]) for key in batch})


def test_a_resumed_run_goes_on_with_the_same_bytes(run):
  batches, whole = run
  for step, batch in enumerate(steps(batches(start_step=1), 4), 1):
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
def test_order_and_augmentation_differ_by_seed_and_epoch(order):
  """Each example comes once an epoch; augmentation also differs by position."""
  data = config(order, 'order', image_size=16, eval_resize=16, shuffle_buffer=5)
  seen, orders = {}, set()
  for seed in (0, 1):
    labels, batches = epochs_of_labels(data, seed=seed, epochs=2, batch_size=ORDER)
    orders |= {tuple(epoch) for epoch in labels}
    for batch in batches:
      assert sorted(batch['label']) == list(range(ORDER))
      for label, image in zip(batch['label'], batch['image'], strict=True):
        seen.setdefault(int(label), []).append(image.tobytes())
      # All clicks are at half the height of equally large images, so only the windows differ.
      kept = batch['point_mask'][:, 0] > 0
      assert kept.sum() > 3 and len(set(batch['point'][kept, 0, 1])) > kept.sum() / 2
  assert len(orders) == 4 and all(len(set(images)) == 4 for images in seen.values())


def test_a_batch_may_be_larger_than_the_data_set(order):
  data = config(order, 'order', image_size=16, eval_resize=16)
  large = pipeline.Rows(2 * ORDER + 4)
  (batch,) = steps(pipeline.train_batches(data, pipeline.dataset_spec(data), large, seed=0), 1)
  labels = batch['label']
  assert sorted(labels[:ORDER]) == sorted(labels[ORDER : 2 * ORDER]) == list(range(ORDER))
  assert batch['example_mask'].tolist() == [1] * (2 * ORDER + 4)


def test_subsplits_share_out_the_examples(order):
  data = config(order, 'order', image_size=16, eval_resize=16, train_split='train[:40%]')
  part = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(9), seed=0)
  trained = np.concatenate([b['label'] for b in steps(part, 2)])
  rest, count = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train[40%:]', pipeline.Rows(5)
  )
  evaluated = np.concatenate([b['label'][b['example_mask'] > 0] for b in rest])
  assert len(set(trained)) == 9 and sorted(trained) == sorted([*set(trained)] * 2)
  assert sorted([*set(trained), *evaluated]) == list(range(ORDER)) and count == 3


@pytest.mark.slow
@pytest.mark.parametrize(('batch_size', 'num_hosts'), [(8, 2), (100, 4)])
def test_evaluation_covers_everything_once_over_hosts(order, batch_size, num_hosts):
  data = config(order, 'order', image_size=16, eval_resize=16)
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
  one_host = pipeline.Rows(ORDER)
  in_order, _ = pipeline.eval_batches(data, pipeline.dataset_spec(data), 'train', one_host)
  assert labels == next(iter(in_order))['label'].tolist() and sorted(labels) == list(range(ORDER))
  assert counts == {-(-ORDER // batch_size)}


@pytest.mark.parametrize('limit', [None, 5])
def test_in_evaluation_a_host_opens_no_file_of_another_host(tmp_path, limit):
  examples = [imagenet_example(i, np.zeros((4, 4, 3), np.uint8), label=i) for i in range(12)]
  store(tmp_path, 'files', painted_data.imagenet_features(12), {'train': examples}, num_shards=2)
  *_, last = sorted(tmp_path.rglob('*.tfrecord*'))
  last.write_bytes(b'damaged')
  data = config(tmp_path, 'files', image_size=8, eval_resize=8)
  counts = []
  for host in range(2):
    batches, _ = pipeline.eval_batches(
      data, pipeline.dataset_spec(data), 'train', pipeline.Rows(6, 2, host), max_examples=limit
    )
    if host == 1 and limit is None:
      with pytest.raises(UserError, match='cannot be read'):
        list(batches)
    else:
      counts.append(int(sum(batch['example_mask'].sum() for batch in batches)))
  assert counts == ([6] if limit is None else [2, 3])


# Options.


def test_spec(order):
  spec = pipeline.dataset_spec(config(order, 'order'))
  assert spec == dataset.DatasetSpec(
    name='order',
    class_names=painted_data.NAMES[:ORDER],
    num_classes=ORDER,
    multi_label=False,
    num_points=1,
    num_examples={'train': ORDER, 'validation': 5},
  )
  assert (
    pipeline.dataset_spec(config(order, 'order', byproduct='trace', trace_points=6)).num_points == 6
  )


def whole_images(folder, **changes):
  """Config of 'order' with the whole 24 x 20 image as its crop, unflipped: points stay in place."""
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
def test_traces(order):
  data = whole_images(order, byproduct='trace', trace_points=3)
  (batch,) = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(ORDER), seed=0), 1
  )
  for label, points, mask in zip(batch['label'], batch['point'], batch['point_mask'], strict=True):
    if label % 4:  # trace samples at 0 and 1 ms, the click at 2 ms
      np.testing.assert_allclose(
        points, [(0.1, 0.1), (0.2, 0.2), ((label + 1) / 32, 0.5)], atol=1e-5
      )
      assert mask.tolist() == [1, 1, 1]
    else:
      assert not points.any() and not mask.any()


@pytest.mark.slow
@pytest.mark.parametrize('control', ['none', 'shuffled', 'uniform'])
def test_controls_are_fixed_per_image(order, control):
  data = whole_images(order, control=control)
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
  if control == 'none':
    return
  other = steps(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(ORDER), seed=5), 1
  )[0]
  other = dict(zip(other['label'].tolist(), other['point'][:, 0].tolist(), strict=True))
  assert not np.allclose(
    [other[k] for k in range(ORDER)], [points[0][k] for k in range(ORDER)], atol=1e-5
  )


@pytest.mark.slow
def test_evaluation_uses_the_real_clicks(order):
  data = whole_images(order, control='shuffled')
  batches, _ = pipeline.eval_batches(
    data, pipeline.dataset_spec(data), 'train', pipeline.Rows(ORDER)
  )
  (batch,) = batches
  for label, point, mask in zip(
    batch['label'], batch['point'][:, 0], batch['point_mask'][:, 0], strict=True
  ):
    if mask:
      width = 24 / 20  # the view is the middle square of 20 x 24
      np.testing.assert_allclose(point, (((label + 1) / 32 - 0.5) * width + 0.5, 0.5), atol=0.04)


@pytest.mark.slow
def test_augmentation_is_a_function_of_seed_epoch_and_position(order):
  plain = config(order, 'order', image_size=24, eval_resize=24, byproduct='trace')
  data = plain.copy_and_resolve_references()
  data.update({'augment': 'randaugment', 'augment_ops': 1, 'augment_magnitude': 20})
  data.random_erasing = 0.5
  spec = pipeline.dataset_spec(data)
  before, after = (
    steps(pipeline.train_batches(d, spec, pipeline.Rows(20), seed=3), 2) for d in (plain, data)
  )
  keys, moved = ('image', 'point', 'point_mask'), 0
  for number in range(0, 40, 5):
    step, row = divmod(number, 20)
    plain_example = [before[step][key][row] for key in keys]
    seed = tfrecords.fold(3, 1, *tf.constant(divmod(number, ORDER), tf.int64))
    example = augment.augment(data, *plain_example, tf.random.fold_in(seed, 0))
    example = augment.erase(data, *example, tf.random.fold_in(seed, 1))
    for key, value in zip(keys, example, strict=True):
      np.testing.assert_array_equal(after[step][key][row], value)
    moved += (plain_example[1] != np.asarray(example[1])).any()
  assert 0 < moved < 8
