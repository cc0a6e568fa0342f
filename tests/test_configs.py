"""Configs are locked and documented, and build the models and schedules they name."""

import importlib.util
import pathlib
import re

import pytest

from luab_jax.tools import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*.py'))


def _load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_locked_and_says_what_it_is(path):
  module = _load(path)
  with pytest.raises(AttributeError, match='Did you mean "momentum"'):
    module.get_config().optimizer.momentun = 0.9
  if path.stem == 'default':
    return
  for word in ('Paper:', 'Command', 'Hardware:', 'Expected:'):
    assert word in module.__doc__, f'{path.name}: its docstring lacks {word}'


def test_every_key_of_the_default_config_has_a_comment():
  source = (ROOT / 'configs/default.py').read_text()
  text = cli.describe(_load(ROOT / 'configs/default.py').get_config(), source)
  keys = re.findall(r'^  c\.([\w.]+) = (?!ml_collections)', source, re.M)
  assert len(keys) > 60
  for key in keys:
    assert re.search(rf'^{key} = .+\n    \S', text, re.M), key


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_model_and_schedules(path):
  from luab_jax import models
  from luab_jax.train import optimizer

  config = _load(path).get_config()
  coco = config.data.name.startswith('coco_ab')
  classes = 80 if coco else 10
  models.build_model(
    config.model, num_classes=classes, num_points=classes if coco else 1, multi_label=coco
  )
  schedules = optimizer.make_schedules(config, 1000, 10)
  optimizer.make_optimizer(config, schedules.learning_rate)
  assert float(schedules.learning_rate(1000)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
  'name', ['quickstart', 'quickstart_coco', 'mini_release', 'own_data', 'caltech_scenes']
)
def test_results_of_small_experiments_do_not_depend_on_the_number_of_cores(name):
  assert _load(ROOT / f'configs/{name}.py').get_config().model.sync_batch_norm
