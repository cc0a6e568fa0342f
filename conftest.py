"""Shared by all tests: eight virtual CPU devices, no accelerator, small data sets, real records."""

import gc
import os
import pathlib
import tempfile
from importlib.metadata import version

import pytest
from absl import logging

from luab_jax import configure_process

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
configure_process()
# Tests compile far more than they compute: a small step takes 0.9 CPU-seconds with XLA's older
# emitters, which jaxlib 0.12 no longer has, instead of 2.3.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
if version('jaxlib').startswith(('0.9.', '0.10.')):
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
# Without a cache, resumed runs, other workers and processes started by tests would compile the same
# steps again. Workers of pytest-xdist share the folder of the process that started them.
if 'PYTEST_XDIST_WORKER' not in os.environ:
  _CACHE = tempfile.TemporaryDirectory(prefix='luab_jax_test_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'


def pytest_configure(config):
  del config
  import jax

  jax.config.update('jax_num_cpu_devices', 8)


# Files with few but long tests: a worker that gets one of them last leaves the others idle.
_LONGEST = (
  'tests/test_notebooks.py',
  'tests/train/test_recipes.py',
  'tests/test_benchmarks.py',
  'tests/train/test_two_processes.py',
  'tests/stress/test_faults.py',
  'tests/train/test_train.py',
  'tests/train/test_step.py',
  'tests/report/test_report.py',
  'tests/data/test_pipeline.py',
  'tests/runtime/test_preemption.py',
  'tests/test_documented_commands.py',
  'tests/runtime/test_metric_writers.py',
)


def pytest_collection_modifyitems(items):
  """Runs the longest files first, the others in pytest's order."""
  places = {name: place for place, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: places.get(item.nodeid.partition('::')[0], len(places)))


def pytest_collection_finish(session):
  """Excludes everything imported so far from garbage collection."""
  del session
  gc.freeze()


SHARED = pathlib.Path(__file__).resolve().parents[1] / 'shared'


@pytest.fixture(scope='session')
def shared():
  """The folder of real records and the mini release next to the checkout; skips if it is absent."""
  if not SHARED.is_dir():
    pytest.skip(f'{SHARED} is absent: the real small files are next to the checkout only in our CI')
  return SHARED


def _build(builder_class, release, tmp_path_factory):
  """data_dir of a small synthetic release, generated and built by the project's own code."""
  import tensorflow_datasets as tfds

  from luab_jax.tools.synthetic import __main__ as synthetic

  files, data_dir = tmp_path_factory.mktemp('release'), tmp_path_factory.mktemp('built')
  synthetic.main(
    [f'--release={release}', f'--out={files}', '--train=96', '--validation=40', '--size=32']
  )
  builder = builder_class(config='local', data_dir=str(data_dir))
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(files)))
  return str(data_dir)


@pytest.fixture(scope='session')
def synthetic_imagenet_ab(tmp_path_factory):
  """data_dir of a built synthetic ImageNet-AB: 96 training images, 40 in each other split."""
  from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

  return _build(imagenet_ab_dataset_builder.Builder, 'imagenet_ab', tmp_path_factory)


@pytest.fixture(scope='session')
def synthetic_coco_ab(tmp_path_factory):
  """data_dir of a built synthetic COCO-AB: 96 training and 40 validation images."""
  from tfds_builders.coco_ab import coco_ab_dataset_builder

  return _build(coco_ab_dataset_builder.Builder, 'coco_ab', tmp_path_factory)


_VERBOSITY = logging.get_verbosity()


@pytest.fixture(autouse=True)
def _warnings_are_logged():
  """Restores the log level: run.py's modes log only errors, but other tests read warnings."""
  logging.set_verbosity(_VERBOSITY)
