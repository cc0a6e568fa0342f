"""Shared by all tests: eight virtual CPU devices, no accelerator, and the real small files."""

import os
import pathlib

import pytest

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile far more than they compute.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


def pytest_configure(config):
  del config
  import jax

  jax.config.update('jax_num_cpu_devices', 8)


SHARED = pathlib.Path(__file__).resolve().parents[1] / 'shared'


@pytest.fixture(scope='session')
def shared():
  """The folder of real records and the mini release beside the checkout; skips where it is absent."""
  if not SHARED.is_dir():
    pytest.skip(f'{SHARED} is absent: the real small files lie beside the checkout only in our CI')
  return SHARED
