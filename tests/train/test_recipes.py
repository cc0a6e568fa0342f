"""The recipes with augmentation, regularisation and fine-tuning train small networks."""

import json

import numpy as np
import pytest

from configs import (
  coco_ab_resnet50,
  finetune,
  imagenet_ab_resnet50,
  imagenet_ab_resnet50_strong,
  imagenet_ab_vit_s16,
)
from luab_jax import models
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests.short_run import assert_same_bits
from tests.small_models import OneBlock

RECIPES = (
  (imagenet_ab_resnet50, 'tiny_conv'),
  (imagenet_ab_resnet50_strong, 'tiny_conv'),
  (imagenet_ab_vit_s16, 'tiny_vit'),
  (coco_ab_resnet50, 'tiny_conv'),
  (finetune, 'tiny_conv'),
)
STEPS = 24


def _shrunk(recipe, name, data_dirs):
  config = recipe.get_config()
  config.optimizer.learning_rate *= 8 * 32 / config.batch_size
  config.batch_size, config.total_steps, config.log_every = 32, STEPS, STEPS // 3
  config.eval_every_epochs, config.report_images = 0.0, 0
  config.optimizer.warmup_epochs = 1.0
  release = config.data.name.partition('/')[0]
  config.data.name, config.data.data_dir = f'{release}/local', data_dirs[release]
  config.data.train_split = 'train'
  config.data.eval_splits = {'clicks': 'train[:30%]'}
  config.data.image_size = config.data.eval_resize = 32
  config.data.crop_scale = (0.5, 1.0)
  config.model.name, config.model.dtype = name, 'float32'
  config.robustness.sets = ()
  return config


@pytest.mark.slow
@pytest.mark.parametrize(('recipe', 'name'), RECIPES)
def test_a_recipe_lowers_the_loss_and_can_be_resumed(
  recipe, name, synthetic_imagenet_ab, synthetic_coco_ab, tmp_path, monkeypatch
):
  # One block: these tests spend most of their time compiling.
  monkeypatch.setattr(models, 'TinyConv', OneBlock)
  monkeypatch.setitem(models.VITS, 'tiny_vit', (64, 1, 4, 4))
  data_dirs = {'imagenet_ab': synthetic_imagenet_ab, 'coco_ab': synthetic_coco_ab}
  config = _shrunk(recipe, name, data_dirs)
  run = loop.train_and_evaluate(config, tmp_path, verbose=False)
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  losses = [line['class_loss'] for line in lines if line['split'] == 'train']
  assert len(losses) == 3 and losses[-1] < losses[0]
  assert np.isfinite(run.summary['results']['clicks']['click_error'])
  checkpoints = loop.open_checkpoints(tmp_path, config, read_only=True)
  restored, _ = Experiment(config).init_or_restore(checkpoints)
  checkpoints.close()
  assert_same_bits(restored, run.state)
  again = loop.evaluate_only(config, tmp_path, verbose=False)
  assert again.summary['results'] == run.summary['results']
