"""Shared by all tests: eight virtual CPU devices, no accelerator, and the real small files."""

import os
import pathlib
import tempfile

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile far more than they compute.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')


_CACHE = tempfile.TemporaryDirectory(prefix='luab_jax_test_')
# Runs that are continued, and processes started by tests, would compile the same steps again.
os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'


def pytest_configure(config):
  del config
  import jax

  jax.config.update('jax_num_cpu_devices', 8)


SHARED = pathlib.Path(__file__).resolve().parents[1] / 'shared'


@pytest.fixture(scope='session')
def shared():
  """The folder of real records and the mini release beside the checkout, or a skip."""
  if not SHARED.is_dir():
    pytest.skip(f'{SHARED} is absent: the real small files lie beside the checkout only in our CI')
  return SHARED


@pytest.fixture(scope='session')
def synthetic_imagenet_ab(tmp_path_factory):
  """data_dir of a small embedded ImageNet-AB release, built by the project's own builder."""
  import tensorflow_datasets as tfds

  from luab_jax.synthetic import __main__ as synthetic
  from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

  release, data_dir = tmp_path_factory.mktemp('release'), tmp_path_factory.mktemp('built')
  synthetic.main([
    '--release=imagenet_ab', f'--out={release}', '--train=96', '--validation=40', '--size=32'
  ])
  builder = imagenet_ab_dataset_builder.Builder(config='local', data_dir=str(data_dir))
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=str(release))
  )
  return str(data_dir)
