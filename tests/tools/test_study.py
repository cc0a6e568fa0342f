"""The study: its runs, none of which is trained twice, and the pages it writes."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import quickstart_coco
from luab_jax.data import tfrecords
from luab_jax.errors import UserError
from luab_jax.tools.study import duration, intervals, plan, study
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests.tools.pretended_runs import pretend, tiny_study

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope='module')
def _few_draws():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(intervals, 'DRAWS', 100)
    yield


@pytest.fixture(scope='module')
def finished(synthetic_imagenet_ab, tmp_path_factory):
  """(config, workdir, result) of a study, one run of which was really trained."""
  config, workdir = tiny_study(synthetic_imagenet_ab), tmp_path_factory.mktemp('study')
  with pytest.MonkeyPatch.context() as patch:
    trained = pretend(patch, really=('luab_spatial/seed0',), pages=True)
    result = study.run_study(config, workdir)
  assert trained == [f'{arm}/seed{seed}' for seed in (0, 1) for arm in plan.ARMS]
  return config, workdir, result


def test_a_study_writes_its_files(finished):
  _, workdir, result = finished
  for arm in plan.ARMS:
    run, planned = json.loads((workdir / arm / 'seed1' / 'config.json').read_text()), plan.ARMS[arm]
    assert run['seed'] == 1 and run['data']['control'] == planned.control
    assert run['loss']['point_weight'] == result['arms'][arm]['point_weight']
    assert run['loss']['map_loss'] == ('gaussian' if planned.loss == 'map' else 'none')
    assert run['model']['name'] == {'linear': 'tiny_deep', 'spatial': 'tiny_conv'}[planned.network]
  assert {arm: content['point_weight'] for arm, content in result['arms'].items()} == {
    'baseline': 0,
    'luab_linear': 3,
    'linear_map': 0,
    'linear_shuffled': 3,
    'spatial_baseline': 0,
    'spatial_no_click': 0,
    'luab_spatial': 30,
    'spatial_map': 0,
    'point_shuffled': 30,
    'map_shuffled': 0,
    'map_uniform': 0,
  }
  summary = json.loads((workdir / 'luab_spatial' / 'seed0' / 'summary.json').read_text())
  assert summary['step'] == 2
  written = json.loads((workdir / 'study.json').read_text())
  arms = written['arms']
  assert (
    arms['luab_spatial']['runs']['0']['heldout/click_error']
    == (summary['results']['heldout']['click_error'])
  )
  assert arms['luab_spatial']['metrics']['heldout/click_error']['seeds'] == 2
  # The point outputs of the baseline were never trained.
  assert 'heldout/click_error' not in arms['baseline']['metrics']
  assert 'heldout/click_error' in arms['spatial_no_click']['metrics']
  html = (workdir / 'study.html').read_text()
  assert html.count('alt="Map of luab_spatial: ') == 4 and 'Where each arm looks' in html


def test_a_finished_study_is_not_trained_again_and_can_grow(finished, monkeypatch):
  config, workdir, result = finished
  trained = pretend(monkeypatch)
  again = study.run_study(config, workdir)
  assert not trained and again == result
  more = config.copy_and_resolve_references()
  more.study.seeds = 3
  more = study.run_study(more, workdir)
  assert trained == [f'{arm}/seed2' for arm in plan.ARMS]
  assert more['arms']['point_shuffled']['metrics']['uncorrelated/top1'].seeds == 3


def test_a_finished_study_does_not_stand_for_a_rebuilt_data_set(finished, monkeypatch):
  config, workdir, _ = finished
  trained = pretend(monkeypatch)
  monkeypatch.setattr(study, 'contents', lambda data: {'train': '0' * 16})
  with pytest.raises(UserError, match='rebuilt with other contents'):
    study.run_study(config, workdir)
  assert not trained


def test_a_run_that_was_cut_continues_from_its_checkpoint(finished, monkeypatch):
  config, workdir, result = finished
  run = workdir / 'luab_spatial' / 'seed0'
  (run / 'summary.json').unlink()
  shutil.rmtree(run / 'checkpoints' / '2')
  trained, starts = pretend(monkeypatch, really=('luab_spatial/seed0',)), []
  describe = loop.describe
  monkeypatch.setattr(loop, 'describe', lambda *args: starts.append(args[1]) or describe(*args))
  again = study.run_study(config, workdir)
  assert trained == ['luab_spatial/seed0'] and starts == [1]
  assert again['arms'] == result['arms']


def test_a_new_evaluation_split_is_evaluated_without_training(finished, monkeypatch, tmp_path):
  config, workdir, _ = finished
  config = config.copy_and_resolve_references()
  config.data.eval_splits = {'uncorrelated': 'uncorrelated'}
  config.study.arms = ('baseline', 'luab_linear')
  evaluated = []

  def evaluate(config, workdir, *, verbose):
    evaluated.append(workdir)
    return loop.Run(None, None, json.loads((workdir / 'summary.json').read_text()))

  trained = pretend(monkeypatch)
  study.run_study(config, tmp_path)
  assert len(trained) == 4
  monkeypatch.setattr(loop, 'evaluate_only', evaluate)
  config.data.eval_splits = {'uncorrelated': 'uncorrelated', 'new': 'validation'}
  study.run_study(config, tmp_path)
  assert len(trained) == len(evaluated) == 4


def test_a_stopped_study_trains_only_the_rest(synthetic_imagenet_ab, monkeypatch, tmp_path):
  config = tiny_study(synthetic_imagenet_ab)
  first = pretend(monkeypatch, dies_at=5)
  with pytest.raises(KeyboardInterrupt):
    study.run_study(config, tmp_path)
  monkeypatch.undo()
  rest = pretend(monkeypatch)
  study.run_study(config, tmp_path)
  assert len(first) == 5 and len(rest) == 22 - 5 and not set(first) & set(rest)


def test_runs_of_other_machines_are_combined(synthetic_imagenet_ab, monkeypatch, tmp_path):
  """Each seed's study has its own workdir; all run folders are then copied into one."""
  trained, arms = pretend(monkeypatch), ('baseline', 'luab_linear')
  for seed in (0, 1, 2):
    config = tiny_study(synthetic_imagenet_ab, seeds=1, arms=arms)
    config.seed = seed
    study.run_study(config, tmp_path / str(seed))
    for arm in arms:
      name = f'{arm}/seed{seed}'
      shutil.copytree(tmp_path / str(seed) / name, tmp_path / 'all' / name)
  assert len(trained) == 6
  shutil.copy(tmp_path / '2' / 'config.json', tmp_path / 'all')  # of the study: harmless
  result = study.run_study(tiny_study(synthetic_imagenet_ab, seeds=3, arms=arms), tmp_path / 'all')
  assert len(trained) == 6 and result['seeds'] == [0, 1, 2]
  assert result['arms']['baseline']['metrics']['uncorrelated/top1'].seeds == 3


def test_the_time_is_told_before_the_first_run(synthetic_imagenet_ab, capsys):
  config = tiny_study(synthetic_imagenet_ab, arms=('luab_spatial', 'point_shuffled'))
  runs = list(plan.plan_runs(config, Experiment(config)).values())
  duration.announce(runs[1:], len(runs))
  counts, time = capsys.readouterr().out.splitlines()
  assert counts == '3 of 4 runs to train, 1 is done. Timing a few steps …'
  assert re.fullmatch(r'Roughly \d+ (s|min) in all \(\d+ s per run of tiny_conv, with .*\)\.', time)


def test_sweeps_reuse_the_runs_at_their_ends(synthetic_imagenet_ab, monkeypatch, tmp_path):
  config = tiny_study(
    synthetic_imagenet_ab,
    arms=('baseline', 'luab_linear', 'spatial_no_click', 'luab_spatial'),
    data_fractions=(0.25, 0.5, 1.0),
    byproduct_fractions=(0.0, 0.1, 1.0),
  )
  runs = plan.plan_runs(config, Experiment(config))
  names = list(runs)
  assert len(runs) == 8 + 2 * (2 * 4) + 2 * 2
  few = runs['data_fraction_0.25/luab_spatial/seed1']
  assert few.data.train_split == 'train[0:22]' and few.total_steps == 2  # of 86
  steps = few.optimizer.warmup_epochs * 22 / 32, config.optimizer.warmup_epochs * 86 / 32
  assert steps[0] == pytest.approx(steps[1])
  assert runs['byproduct_fraction_0.1/luab_linear/seed0'].data.byproduct_fraction == 0.1
  assert names[:8] == [f'{arm}/seed{seed}' for seed in (0, 1) for arm in config.study.arms]
  trained = pretend(monkeypatch, pages=True)
  result = study.run_study(config, tmp_path)
  assert len(trained) == len(names)
  sweep = result['sweeps']['byproduct_fractions']
  metric = 'uncorrelated/top1'
  assert sweep['arms']['luab_linear'][0] == result['arms']['baseline']['metrics']
  assert sweep['arms']['luab_spatial'][2] == result['arms']['luab_spatial']['metrics']
  gain = [values[metric].mean for values in sweep['gain']['luab_spatial']]
  assert gain[0] == 0 and gain[1] == pytest.approx(0.02, abs=0.03) and gain[2] > 0.15
  page = (tmp_path / 'study.md').read_text()
  assert '## Fraction of the training images' in page and '| 10 % |' in page
  for name in ('study', 'data_fractions', 'byproduct_fractions'):
    _assert_drawn(tmp_path / f'{name}.png')


def _assert_drawn(path):
  """Asserts that an image has a minimum size, many colours, and content in each quarter."""
  pixels = np.asarray(Image.open(path).convert('RGB'))
  height, width = pixels.shape[:2]
  assert height > 200 and width > 400
  assert len(np.unique(pixels.astype(int) @ [1, 256, 65536])) > 50
  for rows in (slice(height // 2), slice(height // 2, None)):
    for columns in (slice(width // 2), slice(width // 2, None)):
      assert pixels[rows, columns].std() > 2


def test_several_classes_an_image(synthetic_coco_ab, monkeypatch, tmp_path):
  config = quickstart_coco.get_config()
  config.total_steps, config.study.seeds, config.data.data_dir = 2, 1, synthetic_coco_ab
  pretend(monkeypatch, pages=True)
  result = study.run_study(config, tmp_path)
  assert result['icon_label'] == 'drop_when_icon_cropped'
  page = (tmp_path / 'study.md').read_text()
  assert 'even the baseline uses byproducts' in page
  assert re.search(
    r'nothing can be said about mAP on .*validation.* \(40 images and a single seed', page
  )
  value = result['arms']['luab_spatial']['metrics']['validation/mAP']
  assert value.low is None and value.reason.endswith('a single seed')


def test_a_workdir_of_another_study_is_refused(finished):
  config, workdir, _ = finished
  for key, value in (('total_steps', 3), ('study.linear_point_weight', 1.0)):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f'another config: {key}'):
      study.run_study(other, workdir)


def test_part_of_a_split(synthetic_imagenet_ab):
  builder = tfrecords.open_builder('imagenet_ab/local', synthetic_imagenet_ab)
  for name, fraction, expected in (
    ('train', 1, 'train[0:96]'),
    ('train[50%:]', 0.25, 'train[48:60]'),
    ('train[:90%]+validation', 0.5, 'train[0:43]+validation[0:20]'),
    ('train', 0.001, 'train[0:1]'),
  ):
    assert tfrecords.first_fraction(builder, name, fraction) == expected
    tfrecords.open_split(builder, expected)
