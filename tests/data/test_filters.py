"""Filters of byproducts on hand-made records: which selections count, and in which splits."""

import numpy as np
import pytest

from luab_jax.data import pipeline, tfrecords
from luab_jax.data.dataset import Source
from luab_jax.data.filters import make_filter
from tests import painted_data
from tests.painted_data import config, imagenet_example, paint, rows, store

# (worker, estimate time in ms or None if not recorded, selected), one list per image
IMAGES = [
  [('a', 100, True)],
  [('a', 900, True), ('b', 2000, True)],
  [('b', 4000, True), ('c', 50, False)],
  [('c', 150, True)],
  [('c', 0, True)],
  [('d', None, True)],
  [],
  [('a', 5, False)],
]
POINT = [(0.2 + 0.1 * block, 0.3) for block in range(2)]  # click of each block of an image


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('filters')
  examples = [
    imagenet_example(
      number,
      paint(12, 12, []),
      label=number,
      clicks=rows(POINT[: len(image)], blocks=range(len(image))),
      workers=[worker for worker, _, _ in image],
      times=[time for _, time, _ in image],
      selected=[selected for _, _, selected in image],
    )
    for number, image in enumerate(IMAGES)
  ]
  store(
    folder,
    'filters',
    painted_data.imagenet_features(len(IMAGES)),
    {'train': examples},
    num_shards=2,
  )
  return folder


def trained_on(folder, **changes):
  """({index of an image: x of its point in training}, the line about the filters)."""
  data = config(folder, 'filters', **changes)
  source = Source(data, pipeline.dataset_spec(data), data.train_split)
  filtered, line = make_filter(source)
  found = {}
  for index, record in tfrecords.in_order(source.split):
    fields = source.parse(record)
    points, has = source.train_points(filtered(index, fields))
    if has[0]:
      found[int(fields['label'])] = round(float(points[0, 0]), 3)
  return found, line


ALL = {0: 0.2, 1: 0.25, 2: 0.2, 3: 0.2, 4: 0.2, 5: 0.2}


@pytest.mark.parametrize(
  ('changes', 'expected', 'line'),
  [
    ({}, ALL, ''),
    (
      {'min_estimate_ms': 1, 'max_estimate_ms': 2999},
      {0: 0.2, 1: 0.25, 3: 0.2},
      'byproducts of train: 4 of 7 selections are kept (dropped: 2 by data.min_estimate_ms=1, '
      '1 by data.max_estimate_ms=2999); 3 of 6 selected images keep one',
    ),
    (
      # Means over selected images: 500 for worker a (without the 5 ms), 3000 for b, 75 for c.
      {'min_worker_ms': 500},
      {0: 0.2, 1: 0.25, 2: 0.2},
      'byproducts of train: 4 of 7 selections are kept (dropped: 3 by data.min_worker_ms=500); '
      '3 of 6 selected images keep one',
    ),
    (
      {'min_estimate_ms': 200, 'min_worker_ms': 501},
      {1: 0.3, 2: 0.2},  # image 1 keeps only worker b's click
      'byproducts of train: 2 of 7 selections are kept (dropped: 4 by data.min_estimate_ms=200, '
      '1 by data.min_worker_ms=501); 2 of 6 selected images keep one',
    ),
  ],
)
def test_what_counts_and_what_is_said(folder, changes, expected, line):
  assert trained_on(folder, **changes) == (expected, line)


@pytest.mark.slow
def test_at_most_so_many_of_one_worker(folder):
  found, line = trained_on(folder, max_per_worker=1)
  assert '4 of 7 selections are kept (dropped: 3 by data.max_per_worker=1)' in line
  assert found.keys() & {3, 4} and not found.keys() >= {3, 4} and found[5] == 0.2
  assert trained_on(folder, max_per_worker=1, train_split='train[1:]+train[:1]')[0] == found
  more, _ = trained_on(folder, max_per_worker=2)
  assert more == ALL
  # The other filter drops them first: nothing is left for this one.
  assert '0 by data.max_per_worker=2' in trained_on(folder, min_worker_ms=500, max_per_worker=2)[1]


@pytest.mark.slow
def test_evaluation_keeps_all(folder):
  data = config(folder, 'filters', min_worker_ms=500)
  spec = pipeline.dataset_spec(data)
  batches, _ = pipeline.eval_batches(data, spec, 'train', pipeline.Rows(8), whole=True)
  assert next(iter(batches))['point_mask'].sum() == len(ALL)


@pytest.mark.slow
@pytest.mark.parametrize('control', ['none', 'shuffled'])
def test_training_and_a_control_keep_only_those_that_count(folder, control):
  whole = {'crop_scale': (1, 1), 'crop_ratio': (1, 1), 'flip': False}
  data = config(folder, 'filters', min_worker_ms=500, control=control, **whole)
  batches = pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(8), seed=0)
  assert 'dropped: 3 by data.min_worker_ms=500' in batches.filtered
  batch = next(iter(batches))
  counts = batch['point_mask'][:, 0] > 0
  assert sorted(batch['label'][counts]) == [0, 1, 2]
  np.testing.assert_allclose(sorted(batch['point'][counts, 0, 0]), [0.2, 0.2, 0.25], atol=1e-3)
