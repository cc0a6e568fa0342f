"""Options are checked before anything is opened; every bit of a seed counts."""

import jax
import numpy as np
import pytest
import tensorflow as tf

from configs import default
from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.models import LuabModel
from luab_jax.models.heads import SpatialHead
from luab_jax.models.losses import check_loss
from luab_jax.models.vit import VisionTransformer
from luab_jax.tools.study import study
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from luab_jax.train.optimizer import make_optimizer
from luab_jax.train.options import check_options
from luab_jax.train.state import init_state
from tests.short_run import short_config


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('model.name', 'resnet51', 'model.name: unknown'),
    ('model.head', 'x', 'model.head: unknown'),
    ('model.dtype', 'float16', 'model.dtype: unknown'),
    ('model.normalisation', 'x', 'model.normalisation: unknown'),
    ('data.click', 'x', 'data.click='),
    ('data.mixup_alpha', -0.1, 'data.mixup_alpha=-0.1 is too small'),
    ('data.cutmix_alpha', float('nan'), 'data.cutmix_alpha=nan is too small'),
    ('data.byproduct', 'x', 'data.byproduct='),
    ('loss.point_loss', 'x', 'loss.point_loss: unknown'),
    ('loss.point_schedule', 'x', 'loss.point_schedule: unknown'),
    ('loss.label_smoothing', 1.0, 'loss.label_smoothing: 1.0 is outside'),
    ('loss.map_loss', 'x', "loss.map_loss: unknown 'x'"),
    ('loss.map_weight', -1.0, 'loss.map_weight=-1.0 is too small'),
    ('loss.map_sigma', 0.0, 'loss.map_sigma: 0.0 is not a fraction'),
    ('optimizer.name', 'adam', "optimizer.name='adam' is unknown"),
    ('optimizer.ema_decay', 1.0, 'optimizer.ema_decay=1.0 is too large'),
    ('optimizer.momentum', -0.1, 'optimizer.momentum=-0.1 is too small'),
    ('optimizer.warmup_epochs', -1.0, 'optimizer.warmup_epochs=-1.0 is too small'),
    ('robustness.sets', ('imagenet_x',), "robustness.sets: no set 'imagenet_x'"),
    ('seed', 1 << 63, 'seed='),
    ('batch_size', 1025, 'batch_size='),
    ('keep_best', 'top1', "keep_best='top1': there is no split ''"),
    (
      'keep_best',
      'val/top1',
      "there is no split 'val' to evaluate; .*splits heldout_clicks, validation",
    ),
    ('keep_best', '-imagenet_v2/topimages/top1', 'is evaluated once, at the end'),
  ],
)
def test_a_wrong_option_is_reported_before_missing_data(tmp_path, key, value, message):
  config = default.get_config()
  config.data.data_dir = str(tmp_path / 'none')
  config.update_from_flattened_dict({key: value})
  for start in (loop.train_and_evaluate, study.run_study):
    with pytest.raises(UserError, match=message):
      start(config, tmp_path / 'run')
  assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('options', 'why'),
  [
    ({'data.byproduct': 'trace'}, 'has no map for each point of a trace'),
    ({'model.name': 'vit_s16'}, 'on the class token of vit_s16 does not read'),
  ],
)
def test_a_map_loss_needs_maps(tmp_path, options, why):
  config = default.get_config()
  config.data.data_dir = str(tmp_path / 'none')
  config.update_from_flattened_dict(options)
  config.loss.map_loss = 'gaussian'
  with pytest.raises(UserError, match=f"^loss.map_loss='gaussian': the linear head {why}"):
    loop.train_and_evaluate(config, tmp_path / 'run')
  assert not any(tmp_path.iterdir())
  config.model.head = 'spatial'
  check_options(config)
  config.update_from_flattened_dict({'model.head': 'linear', 'model.vit_pool': 'gap'})
  config.data.byproduct = 'click'
  check_options(config)


def test_a_map_loss_of_heat_maps_needs_their_own():
  config = default.get_config()
  config.loss.map_loss = 'heatmap'
  check_options(config)
  with pytest.raises(UserError, match="^loss.map_loss='heatmap': this data set has no heat maps"):
    check_loss(config.loss, has_heatmap=False)
  config.data.control = 'shuffled'
  with pytest.raises(UserError, match="^loss.map_loss='heatmap': data.control='shuffled' replaces"):
    check_options(config)


def test_pairs_to_mix_must_share_a_device():
  config = default.get_config()
  config.batch_size = 8 * 3  # of eight devices
  config.data.mixup_alpha = 0.2
  with pytest.raises(UserError, match='batch_size=24 is not a multiple of 2 x 8 devices'):
    check_options(config)
  config.batch_size = 8 * 4
  check_options(config)


@pytest.mark.slow
def test_keep_best_with_an_unknown_metric_is_refused_at_the_start(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.model.head = 'linear'
  for known in ('clicks/top1', '-clicks/click_error', 'uncorrelated/maxboxacc_v2_cam'):
    config.keep_best = known
    Experiment(config)
  for unknown in ('clicks/accuracy', 'clicks/mAP', 'clicks/maxboxacc_v2_attention'):
    config.keep_best = unknown
    with pytest.raises(UserError, match='no such metric; there are clicks/top1, '):
      loop.train_and_evaluate(config, tmp_path / 'run')
  config.model.head = 'spatial'
  Experiment(config)  # the spatial head has an attention map, the study's baseline has none
  with pytest.raises(UserError, match='no such metric'):
    study.run_study(config, tmp_path / 'study')
  assert not any(tmp_path.iterdir())


def _weights(seed):
  config = default.get_config()
  model = LuabModel(VisionTransformer(16, 0, 2, 8), SpatialHead(5, 1, False))
  optimizer = make_optimizer(config, lambda _: 0.1)
  state = init_state(model, optimizer, seed=seed, image_size=16, ema=False)
  return b''.join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state.params))


def test_every_bit_of_a_seed_counts():
  seeds = (0, 1, 1 << 32, 1 << 62, -1, (1 << 32) - 1, (1 << 63) - 1, -(1 << 63))
  draws = {float(tf.random.stateless_uniform([], tfrecords.fold(seed, 1))) for seed in seeds}
  assert len(draws) == len(seeds)
  assert len({_weights(seed) for seed in seeds}) == len(seeds)
