"""A short run on ClickMe: trained on heat maps and evaluated against them."""

import math

import numpy as np
import pytest

from luab_jax import models
from luab_jax.evaluate.alignment import HUMAN_CEILING
from luab_jax.train import loop
from tests.short_run import short_config
from tests.small_models import OneBlock
from tfds_builders import build
from tfds_builders.clickme import small_release


@pytest.mark.slow
def test_a_run_on_heat_maps(tmp_path, monkeypatch):
  monkeypatch.setattr(models, 'TinyConv', OneBlock)
  places = np.random.default_rng(0).uniform(0.2, 0.8, (40, 2))
  records = [small_release.painted(x, y, i % 3) for i, (x, y) in enumerate(places)]
  raw = small_release.write(tmp_path / 'raw', {'train-0': records[:32], 'val-0': records[32:]})
  build.build('clickme/local', manual_dir=raw, data_dir=tmp_path / 'data')
  config = short_config(str(tmp_path / 'data'))
  config.data.name = 'clickme/local'
  config.data.eval_splits = {'validation': 'validation'}
  config.data.click = 'peak'
  config.loss.map_loss = 'heatmap'
  config.total_steps = 3
  metrics = loop.train_and_evaluate(config, tmp_path / 'run').summary['results']['validation']
  assert metrics['examples'] == 8
  assert metrics['points_used'] == 1
  assert 0 < metrics['map_loss'] < 2 * math.log(32 * 32)
  for kind in ('saliency', 'cam'):
    assert -1 <= metrics[f'spearman_{kind}'] <= 1
    expected = metrics[f'spearman_{kind}'] / HUMAN_CEILING
    assert metrics[f'alignment_{kind}'] == pytest.approx(expected)
