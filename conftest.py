"""Shared by all tests: eight virtual CPU devices, no accelerator, small data sets, real records."""

import fcntl
import gc
import os
import pathlib
import shutil
import sys
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
  'tests/train/test_two_processes.py',
  'tests/train/test_recipes.py',
  'tests/test_notebooks.py',
  'tests/stress/test_faults.py',
  'tests/test_benchmarks.py',
  'tests/train/test_step.py',
  'tests/test_documented_commands.py',
  'tests/runtime/test_preemption.py',
  'tests/builders/test_beam_build.py',
  'tests/report/test_report.py',
  'tests/data/test_shuffling.py',
  'tests/models/test_models.py',
  'tests/data/test_pipeline.py',
  'tests/runtime/test_metric_writers.py',
  'tests/tools/test_one_class.py',
  'tests/tools/test_study.py',
)


def pytest_collection_modifyitems(items):
  """Runs the longest files first, the others in pytest's order."""
  places = {name: place for place, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: places.get(item.nodeid.partition('::')[0], len(places)))


def pytest_collection_finish(session):
  """Shares steps between runs, and excludes all that was imported from garbage collection."""
  del session
  if 'luab_jax.train.experiment' in sys.modules:
    from tests import shared_steps

    shared_steps.share()
  gc.freeze()


SHARED = pathlib.Path(__file__).resolve().parents[1] / 'shared'


@pytest.fixture(scope='session')
def shared():
  """The folder of real records and the mini release next to the checkout; skips if it is absent."""
  if not SHARED.is_dir():
    pytest.skip(f'{SHARED} is absent: the real small files are next to the checkout only in our CI')
  return SHARED


def _built_once(tmp_path_factory, name, build):
  """A folder that `build(folder)` fills: once for all workers of pytest-xdist, to be read only."""
  root = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    root = root.parent
  with (root / f'{name}.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (root / f'{name}.done').exists():
      shutil.rmtree(root / name, ignore_errors=True)  # of a worker that failed
      build(root / name)
      (root / f'{name}.done').touch()
  return root / name


def _synthetic(tmp_path_factory, release, builder_class):
  """data_dir of a small synthetic release, generated and built by the project's own code."""
  import tensorflow_datasets as tfds

  from luab_jax.tools.synthetic import __main__ as synthetic

  def build(folder):
    files = folder / 'release'
    synthetic.main(
      [f'--release={release}', f'--out={files}', '--train=96', '--validation=40', '--size=32']
    )
    builder = builder_class(config='local', data_dir=str(folder / 'built'))
    download_config = tfds.download.DownloadConfig(manual_dir=str(files))
    builder.download_and_prepare(download_config=download_config)

  return str(_built_once(tmp_path_factory, release, build) / 'built')


@pytest.fixture(scope='session')
def synthetic_imagenet_ab(tmp_path_factory):
  """data_dir of a built synthetic ImageNet-AB: 96 training images, 40 in each other split."""
  from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

  return _synthetic(tmp_path_factory, 'imagenet_ab', imagenet_ab_dataset_builder.Builder)


@pytest.fixture(scope='session')
def synthetic_coco_ab(tmp_path_factory):
  """data_dir of a built synthetic COCO-AB: 96 training and 40 validation images."""
  from tfds_builders.coco_ab import coco_ab_dataset_builder

  return _synthetic(tmp_path_factory, 'coco_ab', coco_ab_dataset_builder.Builder)


@pytest.fixture(scope='session')
def undisturbed_run(tmp_path_factory, synthetic_imagenet_ab):
  """Workdir of `short_config(synthetic_imagenet_ab)` after its nine steps; only for reading."""
  from luab_jax.train import loop
  from tests.short_run import short_config

  config = short_config(synthetic_imagenet_ab)
  return _built_once(
    tmp_path_factory, 'undisturbed_run', lambda folder: loop.train_and_evaluate(config, folder)
  )


_VERBOSITY = logging.get_verbosity()


@pytest.fixture(autouse=True)
def _warnings_are_logged():
  """Restores the log level: run.py's modes log only errors, but other tests read warnings."""
  logging.set_verbosity(_VERBOSITY)
