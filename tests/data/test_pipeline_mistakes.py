"""What the pipeline says about wrong options, data sets, files and images."""

import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds

from luab_jax.data import pipeline
from luab_jax.errors import UserError
from tests import painted_data
from tests.painted_data import config, encode, imagenet_example, paint, store


def steps(batches, count):
  return list(itertools.islice(iter(batches), count))


def small_set(folder, broken=None):
  """Writes twelve images into one file, number 7 replaced by the bytes `broken`.

  Returns:
    (data config, path of the TFRecord file).
  """
  examples = [imagenet_example(i, paint(10, 12, []), label=0) for i in range(12)]
  if broken:
    examples[7] = imagenet_example(7, broken)
  store(folder, 'small', painted_data.imagenet_features(2), {'train': examples}, num_shards=1)
  return config(folder, 'small', image_size=8, eval_resize=8), next(folder.rglob('*.tfrecord*'))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """data_dir of 'small'."""
  folder = tmp_path_factory.mktemp('small')
  small_set(folder)
  return folder


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'name': 'imagenet_ab/local'},
      'tfds build tfds_builders/imagenet_ab --config=local --manual_dir=.* --data_dir=',
    ),
    ({'name': 'small:2.0.0'}, "no data set 'small:2.0.0'"),
    ({'data_dir': 'x' * 256}, 'no data set'),
    ({'train_split': 'test'}, "no split 'test' .* train and parts"),
    ({'train_split': 'train[:oops]'}, 'no split'),
    ({'train_split': 'train[:0]'}, 'is empty'),
    ({'click': 'median'}, "data.click='median' is unknown: choose one of mean, first, last"),
    ({'byproduct_fraction': 1.5}, 'data.byproduct_fraction=1.5 .* between 0 and 1'),
    ({'min_estimate_ms': -1}, 'data.min_estimate_ms=-1 is too small: at least 0'),
    (
      {'min_estimate_ms': 200, 'max_estimate_ms': 100},
      'data.max_estimate_ms=100 is too small: at least 200',
    ),
    ({'min_worker_ms': 1}, 'no byproduct .* of the 12 .*dropped: 12 by data.min_worker_ms=1'),
    ({'augment': 'autoaugment'}, 'choose one of none, randaugment, trivial'),
    ({'augment_ops': 0}, 'data.augment_ops=0 is too small: at least 1'),
    ({'augment_magnitude': 31}, 'data.augment_magnitude=31 must lie between 0 and 30'),
    ({'random_erasing': -0.1}, 'data.random_erasing=-0.1 must lie between 0 and 1'),
    ({'control': 'off'}, 'none, shuffled, uniform'),
    ({'resize_method': 'area'}, 'bicubic, bilinear'),
    ({'byproduct': 'trace', 'trace_points': 1}, 'at least 2'),
    ({'eval_resize': 40}, 'at least 48'),
    ({'shuffle_buffer': 0}, 'at least 1'),
    ({'crop_scale': (0.5, 1.5)}, 'at most 1'),
    ({'crop_ratio': (4 / 3, 3 / 4)}, 'smallest, largest'),
  ],
)
def test_mistakes_are_told_in_one_line(small, changes, message):
  with pytest.raises(UserError, match=message) as error:
    pipeline.train_batches(
      config(small, 'small', **changes),
      pipeline.dataset_spec(config(small, 'small', **changes)),
      pipeline.Rows(4),
      seed=0,
    )
  assert '\n' not in str(error.value)


def test_further_mistakes(small, tmp_path):
  with pytest.raises(UserError, match='multiple of 3'):
    pipeline.train_batches(
      config(small, 'small'),
      pipeline.dataset_spec(config(small, 'small')),
      pipeline.Rows(8, 3, 0),
      seed=0,
    )
  store(
    tmp_path,
    'icons',
    painted_data.coco_features(),
    {'train': [painted_data.coco_example(0, paint(10, 12, []))]},
    num_shards=1,
  )
  with pytest.raises(UserError, match='one object per image'):
    pipeline.dataset_spec(config(tmp_path, 'icons', byproduct='trace'))
  with pytest.raises(UserError, match='data.max_per_worker=3 filters clicks of ImageNet-AB'):
    pipeline.dataset_spec(config(tmp_path, 'icons', max_per_worker=3))
  features = tfds.features
  store(
    tmp_path,
    'plain',
    features.FeaturesDict({'label': features.ClassLabel(num_classes=2)}),
    {'train': [{'label': 0}]},
    num_shards=1,
  )
  with pytest.raises(UserError, match='no byproduct columns'):
    pipeline.dataset_spec(config(tmp_path, 'plain'))


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded_is_named_in_evaluation(tmp_path):
  data, _ = small_set(tmp_path, encode(paint(10, 12, []), 'TIFF'))
  with pytest.raises(UserError, match=r'^00007.JPEG in split train of .* cannot be decoded') as e:
    list(pipeline.eval_batches(data, pipeline.dataset_spec(data), 'train', pipeline.Rows(5))[0])
  assert '\n' not in str(e.value)


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded_is_named_in_training(tmp_path):
  noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
  data, _ = small_set(tmp_path, encode(noise)[:900])
  with pytest.raises(UserError, match='^00007.JPEG'):
    steps(pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(5), seed=0), 12)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    ('flip', 'cannot be read'),
    ('cut', 'cannot be read'),
    ('fewer', 'cannot be read'),
    ('gone', 'is missing'),
  ],
)
def test_damaged_files_are_told(tmp_path, damage, message):
  data, path = small_set(tmp_path)
  content = bytearray(path.read_bytes())
  if damage == 'flip':
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
  elif damage == 'cut':
    path.write_bytes(content[:-10])
  elif damage == 'fewer':  # cut between two records: only the metadata tells
    length = int.from_bytes(content[:8], 'little') + 16
    path.write_bytes(content[length:])
  else:
    path.unlink()
  with pytest.raises(UserError, match=message):
    list(pipeline.eval_batches(data, pipeline.dataset_spec(data), 'train', pipeline.Rows(4))[0])
  if damage == 'fewer':  # training reads the same way, but counts the records in its own
    with pytest.raises(UserError, match=message):
      steps(pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(4), seed=0), 9)
