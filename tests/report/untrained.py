"""Experiments before their first step, for tests of what reports draw. Not a test itself."""

import jax
import numpy as np

from configs import quickstart_coco
from luab_jax.train.experiment import Experiment
from luab_jax.train.state import init_state
from tests.small_models import random_variables


def coco_config(data_dir):
  """quickstart_coco on small images."""
  config = quickstart_coco.get_config()
  config.batch_size, config.report_images = 16, 4
  config.data.data_dir, config.data.train_split = data_dir, 'train'
  config.data.eval_splits = {'icons': 'train[:50%]'}
  config.data.image_size = config.data.eval_resize = 32
  return config


def initial(config):
  """(Experiment, state) before the first step, with random parameters; compiles nothing."""
  experiment = Experiment(config)
  size = config.data.image_size
  state = jax.eval_shape(
    lambda: init_state(experiment.model, experiment.optimizer, seed=0, image_size=size, ema=False)
  )
  image = np.zeros((1, size, size, 3), np.float32)
  return experiment, state.replace(**jax.device_get(random_variables(experiment.model, image)))
