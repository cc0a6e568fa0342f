"""Whole runs: files, evaluation, resuming, and what cannot be resumed."""

import importlib.metadata
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from luab_jax.data import tfrecords
from luab_jax.data.dataset import Source
from luab_jax.errors import UserError
from luab_jax.evaluate import evaluate
from luab_jax.evaluate.predictor import Predictor, restore_newest
from luab_jax.runtime import parallel
from luab_jax.runtime.workdir import locked
from luab_jax.train import experiment, loop, metrics_file
from luab_jax.train.experiment import Experiment
from tests.short_run import short_config

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def finished(synthetic_imagenet_ab, undisturbed_run, tmp_path_factory):
  """(config, workdir, summary) of an undisturbed run."""
  workdir = tmp_path_factory.mktemp('runs') / 'run'
  shutil.copytree(undisturbed_run, workdir)
  summary = json.loads((workdir / 'summary.json').read_text())
  return short_config(synthetic_imagenet_ab), workdir, summary


def _restore(config, workdir):
  """(state, metadata) that the same command would resume from."""
  checkpoints = loop.open_checkpoints(workdir, config)
  try:
    return Experiment(config).init_or_restore(checkpoints)
  finally:
    checkpoints.close()


@pytest.mark.end_to_end
def test_a_run_writes_its_files(finished):
  config, workdir, summary = finished
  assert json.loads((workdir / 'config.json').read_text())['batch_size'] == 32
  assert any((workdir / 'tensorboard').iterdir())
  lines = metrics_file.read_lines(workdir)
  assert [line['step'] for line in lines if line['split'] == 'train'] == [2, 4, 6, 8]
  assert {(line['step'], line['split']) for line in lines if line['split'] != 'train'} == {
    (step, split) for step in (6, 9) for split in ('uncorrelated', 'clicks')
  }
  results = summary['results']
  assert results['uncorrelated']['examples'] == 40 and 'click_error' not in results['uncorrelated']
  clicks = results['clicks']
  assert 0 < clicks['click_error'] < 1
  assert clicks['click_error_px'] == pytest.approx(32 * clicks['click_error'])
  assert clicks['top5'] >= clicks['top1'] >= 0
  for line in lines:
    if line['split'] != 'train':  # localisation on 25 images per split, at the end on all
      count = line['images_with_boxes'] + line['images_without_boxes']
      assert count == (25 if line['step'] == 6 else line['examples'])
  state, metadata = restore_newest(workdir)
  assert int(state['step']) == metadata['step'] == 9
  assert metadata['data'] == {'epoch': 3, 'position': 0} and metadata['config']['seed'] == 0


def test_outcomes_of_all_examples_are_left_and_their_means_are_the_metrics(finished):
  config, workdir, summary = finished
  arrays = dict(np.load(workdir / 'outcomes.npz'))
  builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
  source = Source(config.data, Experiment(config).spec, 'uncorrelated', builder=builder)
  records = [source.parse_file(r) for _, r in tfrecords.in_order(source.split)]
  names = [fields['file_name'].numpy().decode() for fields in records]
  assert arrays['uncorrelated/file_name'].tolist() == names
  constants = {f'clicks/click_error{of}' for of in ('', '_centre', '_mean')}
  kinds = {
    f'{m}_{kind}' for m in ('maxboxacc_v2', 'epg', 'pointing') for kind in ('cam', 'attention')
  }
  kinds |= {'maxboxacc_v2_log_attention', 'top1'}
  expected = constants | {f'{split}/{name}' for split in summary['results'] for name in kinds}
  measured = {name for name, values in arrays.items() if values.dtype == np.float32}
  assert {name for name in measured if not np.isnan(arrays[name]).all()} == expected
  for name in expected:
    split, metric = name.split('/')
    values = arrays[name]
    assert len(values) == summary['results'][split]['examples']
    assert np.nanmean(values, dtype=float) == pytest.approx(
      summary['results'][split][metric], abs=1e-6
    ), name


def test_the_loss_falls(finished):
  lines = metrics_file.read_lines(finished[1])
  losses = [line['loss'] for line in lines if line['split'] == 'train']
  assert losses[-1] < losses[0]


@pytest.mark.end_to_end
def test_evaluation_alone_gives_the_same_metrics_and_says_once_that_it_compiles(
  finished, monkeypatch
):
  config, workdir, summary = finished
  outcomes = (workdir / 'outcomes.npz').read_bytes()
  stderr = io.StringIO()
  stderr.isatty = lambda: True
  monkeypatch.setattr(sys, 'stderr', stderr)
  again = loop.evaluate_only(config, workdir).summary
  assert again['results'] == summary['results']
  assert json.loads((workdir / 'summary.json').read_text()) == json.loads(json.dumps(again))
  assert (workdir / 'outcomes.npz').read_bytes() == outcomes
  assert stderr.getvalue().count('compiling (once)') == 1


def test_starting_a_finished_run_again_only_repeats_the_summary(finished):
  config, workdir, summary = finished
  before = (workdir / 'metrics.jsonl').read_bytes()
  (workdir / 'summary.json').write_text('{"half of')
  assert loop.train_and_evaluate(config, workdir).summary['results'] == summary['results']
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_workdir_of_another_config_is_refused(finished):
  config, workdir, _ = finished
  other = config.copy_and_resolve_references()
  other.optimizer.learning_rate = 0.2
  with pytest.raises(UserError, match='optimizer.learning_rate .there 0.1, here 0.2.*--workdir'):
    loop.train_and_evaluate(other, workdir)
  harmless = config.copy_and_resolve_references()
  harmless.log_every = 3
  loop.train_and_evaluate(harmless, workdir)


def test_a_workdir_in_use_is_refused_and_may_be_evaluated(finished):
  config, workdir, summary = finished
  before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
  with locked(workdir):
    with pytest.raises(UserError, match=f'{workdir} is in use by process {os.getpid()} on '):
      loop.train_and_evaluate(config, workdir)
    lock_file = workdir / 'lock.json'
    assert {
      p: p.read_bytes() for p in workdir.rglob('*') if p.is_file() and p != lock_file
    } == before
    assert loop.evaluate_only(config, workdir).summary['results'] == summary['results']
    for path in [workdir / 'metrics.jsonl', *(workdir / 'checkpoints').rglob('*')]:
      if path.is_file():
        assert path.read_bytes() == before[path]
  assert not lock_file.exists()


def test_scores_that_are_not_finite_are_no_result(finished):
  config, workdir, _ = finished
  run = Experiment(config)
  state, _ = _restore(config, workdir)
  params = jax.tree.map(lambda leaf: leaf * np.nan, state.params)
  state = parallel.replicate(state.replace(ema_params={}, params=params))
  with pytest.raises(UserError, match='the loss on .* is nan'):
    run.evaluate(parallel.map_step(run.eval_step), state, show_progress=False, final=False)


def test_a_run_does_not_resume_on_other_records(finished, tmp_path, synthetic_imagenet_ab):
  config, workdir, _ = finished
  run, (_, metadata) = Experiment(config), restore_newest(workdir)
  assert run.check_continues(metadata) == []
  for changed in ({'num_examples': 95}, {'files': 'others'}):
    with pytest.raises(UserError, match='of imagenet_ab/local, train; .* now has 96, or'):
      run.check_continues({**metadata, 'records': {**metadata['records'], **changed}})


def test_a_run_does_not_resume_on_other_contents(finished, tmp_path, monkeypatch):
  config, workdir, summary = finished
  assert summary['contents'].keys() == {'train', 'uncorrelated'}
  before = {path: path.read_bytes() for path in workdir.glob('*.json*')}
  for split in ('train', 'uncorrelated'):
    changed = {**summary['contents'], split: '0' * 16}
    monkeypatch.setattr(experiment, 'contents', lambda data, changed=changed: changed)
    with pytest.raises(UserError, match=f'rebuilt with other contents .*{split}. after the run'):
      loop.train_and_evaluate(config, workdir)
  monkeypatch.setattr(experiment, 'contents', lambda data: {})
  (line,) = Experiment(config).check_continues(restore_newest(workdir)[1])
  assert 'built by an older version' in line
  assert {path: path.read_bytes() for path in workdir.glob('*.json*')} == before


def test_fewer_steps_than_a_run_has_are_refused(finished):
  config, workdir, _ = finished
  before = {path: path.read_bytes() for path in workdir.glob('*.json*')}
  shorter = config.copy_and_resolve_references()
  shorter.num_epochs = 2.0
  for start in (loop.train_and_evaluate, loop.evaluate_only):
    with pytest.raises(UserError, match='the run is at step 9, but this config ends after 6: set'):
      start(shorter, workdir)
  assert {path: path.read_bytes() for path in workdir.glob('*.json*')} == before


def test_more_steps_than_planned_are_told_with_the_jump(finished):
  config, workdir, _ = finished
  longer = config.copy_and_resolve_references()
  longer.total_steps = 12
  run, metadata = Experiment(longer), restore_newest(workdir)[1]
  (line,) = run.check_continues(metadata)
  assert (
    'planned for 9 steps and now has 12: at step 9 the learning rate jumps from 0 to 0.0' in line
  )
  assert run.check_continues({**metadata, 'total_steps': 12}) == []


def test_the_metrics_that_keep_best_may_name_are_those_of_an_evaluation(finished):
  config, _, summary = finished
  spec = Experiment(config).spec
  names = evaluate.metric_names(
    config.model.head, num_classes=spec.num_classes, multi_label=False, map_loss='none'
  )
  # The boxes of log_attention are only measured at the end.
  measured = {
    name
    for metrics in summary['results'].values()
    for name in metrics
    if 'log_attention' not in name
  }
  assert measured <= {*names, 'examples', 'images_with_boxes', 'images_without_boxes'} | {
    'boxes_left_out'
  }
  assert {'top1', 'top5', 'click_error', 'maxboxacc_v2_cam'} <= measured & set(names)


def test_a_summary_names_version_and_commit(finished):
  _, workdir, summary = finished
  versions = summary['versions']
  assert versions['luab_jax'] == importlib.metadata.version('luab_jax')
  if (ROOT / '.git').exists():
    head = subprocess.run(
      ['git', 'rev-parse', 'HEAD'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert versions['commit'].removesuffix('-dirty') == head.stdout.strip()


def test_a_data_set_of_other_classes_is_refused(finished, tmp_path, synthetic_imagenet_ab):
  config, workdir, _ = finished
  data_dir = tmp_path / 'data'
  shutil.copytree(synthetic_imagenet_ab, data_dir)
  (names,) = data_dir.rglob('label.labels.txt')
  names.write_text(names.read_text().replace('disc', 'disk'))
  other = config.copy_and_resolve_references()
  other.data.data_dir = str(data_dir)  # as if the run's data had been moved
  for start in (loop.train_and_evaluate, loop.evaluate_only):
    with pytest.raises(UserError, match='trained on other classes than those of imagenet_ab/local'):
      start(other, workdir)


def test_a_checkpoint_of_an_older_version_is_refused_in_one_line(finished, tmp_path):
  config, workdir, _ = finished
  state, metadata = _restore(config, workdir)
  del metadata['dataset'], metadata['arrays']
  checkpoints = loop.open_checkpoints(tmp_path, config)
  checkpoints.save(9, state, metadata)
  checkpoints.close()
  for start in (_restore, lambda _, folder: Predictor.from_run(folder)):
    with pytest.raises(UserError, match='written by an older version.*use that version') as error:
      start(config, tmp_path)
    assert '\n' not in str(error.value)
