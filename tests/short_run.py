"""A run of nine steps, for tests of whole runs; also a config file for run.py.

Tests that train it unchanged share its compiled steps, within a process and across processes.
"""

import jax
import numpy as np

from configs import quickstart


def short_config(data_dir):
  """Nine steps of 32 images of 32 px: 3 steps per epoch, a logged line every 2 steps."""
  config = quickstart.get_config()
  config.batch_size = 32
  config.num_epochs = 3.0
  config.log_every = 2
  config.eval_every_epochs = 2.0
  config.checkpoint_every_steps = 5
  config.report_images = 0
  config.data.data_dir = data_dir
  config.data.train_split = 'train'
  config.data.eval_splits = {'uncorrelated': 'uncorrelated', 'clicks': 'train[:30%]'}
  config.data.image_size = config.data.eval_resize = 32
  config.localization.max_images = 25  # of 40 and 29
  config.optimizer.warmup_epochs = 0.5
  config.optimizer.ema_decay = 0.9
  return config


get_config = short_config  # --config=tests/short_run.py:DATA_DIR


def assert_same_bits(left, right):
  """Asserts that two trees of arrays are equal bit for bit."""
  jax.tree.map(np.testing.assert_array_equal, left, right)
