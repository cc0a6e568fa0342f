"""Weights that runs start from and export: --config.init_from, exports, model cards."""

import json
import os

import jax
import numpy as np
import pytest
import safetensors.numpy

from configs import mini_release
from luab_jax.errors import UserError
from luab_jax.runtime.workdir import prepare_workdir, write_json
from luab_jax.tools import export
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests.short_run import assert_same_bits, short_config

RNG = np.random.default_rng(0)


def fresh(config, workdir):
  """(experiment, state, metadata, open checkpoints), as a training run starts."""
  run, checkpoints = Experiment(config), loop.open_checkpoints(workdir, config)
  state, metadata = run.init_or_restore(checkpoints)
  return run, state, metadata, checkpoints


@pytest.mark.slow
@pytest.mark.parametrize('ema_decay', [0.0, pytest.param(0.9, marks=pytest.mark.end_to_end)])
def test_a_run_starts_from_an_export_and_later_from_its_own_checkpoint(
  tmp_path, synthetic_imagenet_ab, ema_decay
):
  config = short_config(synthetic_imagenet_ab)
  config.optimizer.ema_decay = ema_decay
  run, state, _, checkpoints = fresh(config, tmp_path / 'first')
  assert run.loaded == []
  params, batch_stats = jax.tree.map(lambda x: x + 1, (state.params, state.batch_stats))
  state = state.replace(step=np.int32(5), params=params, batch_stats=batch_stats)
  metadata = {'step': 5, 'dataset': run.spec._asdict(), 'config': config.to_dict()}
  checkpoints.save(5, state, metadata)
  checkpoints.close()
  folder = export.export(tmp_path / 'first')
  assert sorted(os.listdir(folder)) == [
    '.written.json',
    'README.md',
    'classes.json',
    'model.safetensors',
    'point_head.safetensors',
  ]
  assert 'timm has no tiny_conv' in (folder / 'README.md').read_text()

  config.init_from, config.seed = str(folder / 'model.safetensors'), 1
  run, started, _, checkpoints = fresh(config, tmp_path / 'second')
  exported = state.ema_params if ema_decay else state.params
  statistics = state.ema_batch_stats if ema_decay else state.batch_stats
  assert_same_bits(started.params['backbone'], exported['backbone'])
  assert_same_bits(started.params['head']['classifier'], exported['head']['classifier'])
  assert_same_bits(started.batch_stats, statistics)
  assert_same_bits(started.ema_params, started.params if ema_decay else {})
  assert_same_bits(started.ema_batch_stats, started.batch_stats if ema_decay else {})
  assert 'new: the point layer' in run.loaded[1] and int(started.step) == 0
  changed = started.replace(step=np.int32(3), params=jax.tree.map(lambda x: x * 2, started.params))
  checkpoints.save(3, changed, metadata)
  checkpoints.close()
  (folder / 'model.safetensors').unlink()  # no longer needed
  run, resumed, _, checkpoints = fresh(config, tmp_path / 'second')
  checkpoints.close()
  assert_same_bits(resumed.params, changed.params)
  assert run.loaded == [] and int(resumed.step) == 3
  with pytest.raises(UserError, match='model.safetensors'):
    fresh(config, tmp_path / 'third')


@pytest.mark.slow
def test_resuming_with_other_weights_is_refused(tmp_path, synthetic_imagenet_ab):
  config = short_config(synthetic_imagenet_ab)
  prepare_workdir(tmp_path, config)
  config.init_from = 'w.safetensors'
  with pytest.raises(UserError, match=r'init_from \(there , here w.safetensors\)'):
    prepare_workdir(tmp_path, config)


@pytest.mark.parametrize('evaluated', [True, False])
def test_the_model_card_has_metrics_and_usage(tmp_path, evaluated):
  config = mini_release.get_config()
  config.model.normalisation = 'half'
  head = {
    'classifier': {'kernel': np.ones((512, 2), 'f4'), 'bias': np.zeros(2, 'f4')},
    'attention': {'kernel': np.ones((512, 1), 'f4')},
  }
  backbone = {'conv1': {'kernel': RNG.normal(size=(7, 7, 3, 64)).astype('f4')}}
  checkpoints = loop.open_checkpoints(tmp_path, config)
  checkpoints.save(
    7,
    {
      'step': np.int32(7),
      'params': {'backbone': backbone, 'head': head},
      'batch_stats': {},
      'ema_params': {},
    },
    {'dataset': {'class_names': ['raccoon', 'kangaroo']}, 'config': config.to_dict()},
  )
  checkpoints.close()
  write_json(
    tmp_path / 'summary.json',
    {'step': 7 if evaluated else 6, 'results': {'validation': {'top1': 0.8125, 'note': 'x'}}},
  )
  folder = export.export(tmp_path)
  card = (folder / 'README.md').read_text()
  assert ('| validation | top1 | 0.8125 |' in card) == evaluated
  timm = json.loads((folder / 'config.json').read_text())
  assert timm['architecture'] == 'resnet18' and timm['label_names'] == ['raccoon', 'kangaroo']
  assert timm['pretrained_cfg']['mean'] == [0.5, 0.5, 0.5]
  assert timm['pretrained_cfg']['crop_pct'] == config.data.image_size / config.data.eval_resize
  assert ('None: this step was not evaluated' in card) == (not evaluated)
  for words in (
    "timm.create_model('local-dir:PATH', pretrained=True)",
    '(0.5, 0.5, 0.5)',
    '64 x 64',
    'einsum',
    'attention.weight [1, 512]',
    '"learning_rate": 0.02',
    'non-commercial',
  ):
    assert words in card, words
  with safetensors.safe_open(folder / 'model.safetensors', framework='np') as file:
    assert file.metadata()['normalisation'] == 'half'
    np.testing.assert_array_equal(
      file.get_tensor('conv1.weight'), backbone['conv1']['kernel'].transpose(3, 2, 0, 1)
    )
    assert set(file.keys()) == {'conv1.weight', 'fc.weight', 'fc.bias'}
