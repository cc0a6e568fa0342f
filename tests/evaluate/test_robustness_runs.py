"""Robustness sets at the end of a run, and sets that are prepared after it."""

import pytest
import tensorflow_datasets as tfds

from configs import quickstart
from luab_jax import models
from luab_jax.report.draw_run import train_and_report
from luab_jax.tools.study import study
from luab_jax.train import loop, metrics_file
from luab_jax.train.experiment import Experiment
from tests import benchmark_sets
from tests.benchmark_sets import labelled, write
from tests.small_models import OneBlock

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def imagenet(synthetic_imagenet_ab, tmp_path_factory):
  """Config of a two-step run on the synthetic release as 1000 classes, with a robustness set."""
  from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder

  data_dir = tmp_path_factory.mktemp('imagenet')
  local = tfds.builder('imagenet_ab/local', data_dir=synthetic_imagenet_ab)
  builder = imagenet_ab_dataset_builder.Builder(config='ilsvrc2012', data_dir=data_dir)
  examples = list(
    tfds.as_numpy(local.as_dataset('train[:16]', decoders={'image': tfds.decode.SkipDecoding()}))
  )
  benchmark_sets.write_as(builder, {'train': examples, 'validation': examples[:8]})
  write('imagenet_a', 'test', labelled([(10, 43), (20, 80)]), data_dir)
  config = quickstart.get_config()
  config.batch_size, config.total_steps, config.log_every, config.report_images = 8, 2, 1, 0
  config.data.name, config.data.data_dir = 'imagenet_ab/ilsvrc2012', str(data_dir)
  config.data.train_split, config.data.eval_splits = 'train', {'validation': 'validation'}
  config.data.image_size = config.data.eval_resize = 32
  config.robustness.sets = ('imagenet_a', 'imagenet_r')
  config.robustness.data_dir = str(data_dir)
  return config


def test_a_run_ends_with_the_sets_and_eval_picks_up_what_was_prepared_since(
  imagenet, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(models, 'TinyConv', OneBlock)
  summary = train_and_report(imagenet, tmp_path).summary
  assert set(summary['results']) == {'validation', 'imagenet_a'}
  assert summary['results']['imagenet_a']['examples'] == 2
  command = f'tfds build imagenet_r --data_dir={imagenet.robustness.data_dir}'
  assert command in summary['not_prepared']['imagenet_r']
  assert command in capsys.readouterr().out
  lines = metrics_file.read_lines(tmp_path)
  assert [(line['step'], line['split']) for line in lines] == [
    (1, 'train'),
    (2, 'train'),
    (2, 'validation'),
    (2, 'imagenet_a'),
  ]

  run = Experiment(imagenet)
  assert study._finished(imagenet, tmp_path, run.robustness, run.contents)
  write('imagenet_r', 'test', labelled([(10, 43)] * 3), imagenet.robustness.data_dir)
  prepared = Experiment(imagenet).robustness
  assert not study._finished(imagenet, tmp_path, prepared, run.contents)
  again = loop.evaluate_only(imagenet, tmp_path).summary
  assert again['results']['imagenet_r']['examples'] == 3
  assert again == {
    **summary,
    'results': {**summary['results'], 'imagenet_r': again['results']['imagenet_r']},
    'not_prepared': {},
    'seconds_in_this_start': again['seconds_in_this_start'],
    'steps_in_this_start': 0,
  }
  assert metrics_file.read_lines(tmp_path)[:-1] == lines
  assert metrics_file.read_lines(tmp_path)[-1]['split'] == 'imagenet_r'
  assert study._finished(imagenet, tmp_path, prepared, run.contents)
