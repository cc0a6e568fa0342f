"""The pipeline on data sets that the two builders made from real photographs."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from benchmarks import input_pipeline as bench
from benchmarks import input_pipeline_peers as peers
from luab_jax.data import geometry, image_ops, pipeline, tfrecords
from luab_jax.data.dataset import Source
from tests.painted_data import config
from tfds_builders.coco_ab import coco_ab_dataset_builder
from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def mini_release(shared, tmp_path_factory):
  """data_dir of both builders' data sets of the real photographs in `shared`."""
  folder = tmp_path_factory.mktemp('mini')
  for name, module in (
    ('imagenet_ab', imagenet_ab_dataset_builder),
    ('coco_ab', coco_ab_dataset_builder),
  ):
    module.Builder(data_dir=folder, config='local').download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir=shared / 'mini_release' / name)
    )
  return folder


@pytest.mark.parametrize(
  ('name', 'points', 'byproduct'),
  [
    ('imagenet_ab/local', 1, 'click'),
    ('imagenet_ab/local', 4, 'trace'),
    ('coco_ab/local', 80, 'click'),
  ],
)
def test_the_mini_release(mini_release, name, points, byproduct):
  data = config(mini_release, name, byproduct=byproduct, color_jitter=0.4)
  spec = pipeline.dataset_spec(data)
  assert spec.num_points == points
  batch = next(iter(pipeline.train_batches(data, spec, pipeline.Rows(48), seed=0)))
  assert batch['image'].shape == (48, 48, 48, 3) and batch['image'].dtype == np.uint8
  assert batch['point'].shape == (48, points, 2) and batch['point_mask'].sum() > 15
  assert (batch['point'] >= 0).all() and (batch['point'] <= 1).all()
  assert batch['image'].std() > 20
  batches, _ = pipeline.eval_batches(data, spec, 'validation', pipeline.Rows(64))
  assert sum(b['example_mask'].sum() for b in batches) == spec.num_examples['validation']


def test_the_benchmark_compares_like_with_like(mini_release, tmp_path):
  images = tmp_path / 'images'
  images.mkdir()
  bench.store_images(mini_release, images)
  for path in sorted(images.iterdir())[24:]:
    path.unlink()
  apart = {mode: bench.pixel_difference(images, mode) for mode in bench.MODES}
  assert apart['bicubic'] <= 1.5 < apart['bilinear, antialias=False'] < 12  # grey levels
  with_points, without = (
    next(batches(mini_release)) for batches in (bench.ours, bench.ours_without_byproducts)
  )
  np.testing.assert_array_equal(with_points['image'], without['image'])
  pixels, _, _ = next(peers.pil(images))
  assert pixels.shape == (128, 3, 224, 224) and abs(pixels.mean()) < 1.5
  assert len(next(peers.decode_alone(images))) == 128


def test_partial_decoding_of_jpegs_is_close_to_whole_decoding(mini_release):
  data = config(mini_release, 'imagenet_ab/local')
  source = Source(data, pipeline.dataset_spec(data), 'train[:12]')
  for number, (_, record) in enumerate(tfrecords.in_order(source.split)):
    data = source.parse(record)['image']
    whole = image_ops.decode(data)
    part, size, window = image_ops.decode_window(
      data, lambda h, w, n=number: geometry.sample_window([n, 0], h, w)
    )
    assert size.numpy().tolist() == list(whole.shape[:2])
    difference = np.abs(part.numpy().astype(int) - image_ops.crop(whole, window).numpy())
    # At the very edge, chroma is interpolated without its neighbour outside the window.
    assert difference[2:-2, 2:-2].max(initial=0) <= 2
