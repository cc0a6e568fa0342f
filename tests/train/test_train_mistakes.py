"""What stops a run: values that are not finite, meaningless options, damaged files."""

import numpy as np
import pytest

from luab_jax import models
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import restore_newest
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests.short_run import short_config
from tests.small_models import OneBlock

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
  monkeypatch.setattr(models, 'TinyConv', OneBlock)


def test_a_damaged_config_is_not_overwritten(tmp_path, synthetic_imagenet_ab):
  (tmp_path / 'config.json').write_text('{"half of')
  with pytest.raises(UserError, match='config.json is damaged .*delete it if you are sure'):
    loop.train_and_evaluate(short_config(synthetic_imagenet_ab), tmp_path)
  assert (tmp_path / 'config.json').read_text() == '{"half of'


def test_nan_stops_the_run_and_leaves_the_last_good_checkpoint(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.checkpoint_every_steps = 1
  config.optimizer.warmup_epochs = 1.0  # the first step still has a learning rate of 0
  config.optimizer.learning_rate = 1e30
  config.optimizer.grad_clip_norm = 0.0
  with pytest.raises(UserError, match=r'step \d: the loss is .* losses were \d.*learning_rate'):
    loop.train_and_evaluate(config, tmp_path)
  state, _ = restore_newest(tmp_path)
  assert int(state['step']) >= 1
  assert all(np.isfinite(leaf).all() for leaf in state['params']['head']['classifier'].values())


@pytest.mark.parametrize('on_nan', ['stop', 'skip'])
def test_parameters_that_are_not_finite_are_never_saved(synthetic_imagenet_ab, tmp_path, on_nan):
  """The last update overflows, although the loss and gradient before it are finite."""
  config = short_config(synthetic_imagenet_ab)
  config.total_steps, config.on_nan = 1, on_nan
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.learning_rate = 1e38
  config.optimizer.grad_clip_norm = 0.0
  config.loss.point_weight = 1e6
  if on_nan == 'skip':
    loop.train_and_evaluate(config, tmp_path)
    assert restore_newest(tmp_path)[0]['step'] == 1
    return
  with pytest.raises(UserError, match='after step 1 a parameter is not finite.*learning_rate'):
    loop.train_and_evaluate(config, tmp_path)
  assert not [path for path in (tmp_path / 'checkpoints').iterdir() if path.name.isdigit()]


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('batch_size', 0),
    ('batch_size', -32),
    ('log_every', 0),
    ('checkpoint_every_steps', 0),
    ('total_steps', -3),
    ('eval_every_epochs', -1.0),
    ('optimizer.grad_accum_steps', 0),
    ('optimizer.learning_rate', -0.1),
    ('optimizer.learning_rate', float('nan')),
    ('keep_checkpoints', 0),
    ('num_epochs', float('nan')),
    ('num_epochs', 0.0),
    ('num_epochs', -1.0),
    ('seed', 1 << 63),
  ],
)
def test_meaningless_numbers_are_one_line(synthetic_imagenet_ab, key, value):
  config = short_config(synthetic_imagenet_ab)
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=f'^{key}={value} '):
    Experiment(config)


def test_unknown_on_nan(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.on_nan = 'ignore'
  with pytest.raises(UserError, match="on_nan='ignore' is unknown: choose stop or skip"):
    loop.train_and_evaluate(config, tmp_path)


def test_eval_without_a_run(synthetic_imagenet_ab, tmp_path):
  with pytest.raises(UserError, match='train first'):
    loop.evaluate_only(short_config(synthetic_imagenet_ab), tmp_path / 'none')


def test_an_empty_evaluation_split_is_reported_before_training(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.data.eval_splits.clicks = 'validation[:1%]'
  with pytest.raises(UserError, match='validation.:1%.*is empty'):
    loop.train_and_evaluate(config, tmp_path)
  assert not (tmp_path / 'config.json').exists()


def test_batch_that_does_not_divide(synthetic_imagenet_ab, tmp_path):
  config = short_config(synthetic_imagenet_ab)
  config.batch_size = 30
  with pytest.raises(UserError, match='batch_size=32'):
    loop.train_and_evaluate(config, tmp_path)
