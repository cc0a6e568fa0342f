"""report.html and data.html: self-contained, escaped, without blank or undescribed images."""

import json
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest

from luab_jax.data import pipeline, tfrecords
from luab_jax.data.dataset import Source
from luab_jax.evaluate import robustness
from luab_jax.report import data_page, report, robustness_page, samples
from luab_jax.report.draw_run import evaluate_and_report, train_and_report
from luab_jax.train.experiment import Experiment
from luab_jax.train.loop import Run
from tests.html_page import Page
from tests.report.untrained import coco_config, initial
from tests.short_run import short_config

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> {{ 7 * 6 }} $\\frac{'
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


@pytest.fixture(scope='module')
def finished(synthetic_imagenet_ab, undisturbed_run, tmp_path_factory):
  """(config, workdir, Run) of a short run that was evaluated again, with a report."""
  config = short_config(synthetic_imagenet_ab)
  config.report_images = 4
  workdir = tmp_path_factory.mktemp('runs') / 'tiny & small'
  shutil.copytree(undisturbed_run, workdir)
  return config, workdir, evaluate_and_report(config, workdir)


def _write(config, state, workdir, results, class_names, not_prepared=()):
  experiment = Experiment(config)
  experiment.spec = experiment.spec._replace(class_names=class_names)
  summary = {
    'step': 0,
    'total_steps': 2,
    'parameters': 1,
    'results': results,
    'machine': 'none',
    'versions': {},
    'not_prepared': dict(not_prepared),
  }
  return report.write_report(Run(experiment, state, summary), workdir)


def test_an_evaluated_run_has_its_report(finished):
  _, workdir, run = finished
  results = run.summary['results']
  page = Page(workdir / 'report.html').check()
  assert 'Report: tiny & small' in page.text
  for title in (
    'Results',
    'Curves',
    'Predictions',
    'mistakes',
    'Largest click errors',
    'Training images after augmentation',
    'Click positions',
    'Configuration',
  ):
    assert title in page.text
  assert f'Top-1, uncorrelated{100 * results["uncorrelated"]["top1"]:.2f} %' in page.text
  for value in (results['clicks']['click_error'], results['uncorrelated']['pointing_cam']):
    assert f'{100 * value:.2f} %' in page.text
  assert 'Accuracy of each class' in page.text and 'Other' not in page.text
  assert 'Robustness' not in page.text and not page.code
  assert 'optimizer.learning_rate' in page.text
  alts = ' '.join(image['alt'] for image in page.images)
  for words in (
    'with its mouse trace',
    'recorded point at (',
    'predicted point at (',
    'Top-1 accuracy over steps: train from',
    'Heat map',
  ):
    assert words in alts
  # 5 charts of curves, 4 predictions, 2 mistakes, 2 click errors, 4 training images, 1 heat map.
  assert len(page.images) == 18


def test_a_report_that_fails_does_not_lose_the_run(finished, monkeypatch, capsys):
  config, workdir, run = finished

  def broken(*_):
    raise ValueError('no\nink')

  with monkeypatch.context() as patch:
    patch.setattr(samples, 'training_examples', broken)
    again = train_and_report(config, workdir)
  assert again.summary['results'] == run.summary['results']
  captured = capsys.readouterr()
  line = next(line for line in captured.err.splitlines() if 'No report' in line)
  assert 'ValueError: no ink' in line and 'test_report.py' in line
  assert 'report.html' not in captured.out


def _corruptions(names):
  return robustness.corrupted(
    {f'{name}_{s}': {'examples': 10, 'top1': 0.1 * s} for name in names for s in range(1, 6)}
  )


def test_the_suite_has_a_section_of_its_own_and_names_from_the_data_are_text(finished, tmp_path):
  config = finished[0].copy_and_resolve_references()
  config.report_images = 1
  results = {
    HOSTILE: {'examples': 40, 'top1': 0.25},
    'imagenet_a': {'examples': 7500, 'top1': 0.0123},
    'imagenet_v2/topimages': {'examples': 1, 'top1': 1.0, 'top5': 1.0},
    'imagenet2012_corrupted': _corruptions(
      [*robustness.ALEXNET_ERROR, *robustness.EXTRA_CORRUPTIONS]
    ),
    'backgrounds_challenge': {
      'examples': 36,
      'top1_mixed_same': 0.75,
      'top1_mixed_rand': 0.5,
      'bg_gap': 0.25,
      'challenge': 0.125,
    },
  }
  # A set that is not prepared is listed as such, and names in its command stay text.
  missing = {'imagenet_r': f'imagenet_r: `tfds build imagenet_r --data_dir=`{HOSTILE}`'}
  config.robustness.sets = (
    'imagenet_a',
    'imagenet_v2',
    'imagenet_r',
    'imagenet2012_corrupted',
    'backgrounds_challenge',
  )
  workdir = tmp_path / HOSTILE.replace('/', '').replace('"', '')
  workdir.mkdir()
  names = [f'{HOSTILE}{c}' for c in range(6)]
  page = Page(_write(config, finished[2].state, workdir, results, names, missing)).check()
  assert any(HOSTILE in image['alt'] for image in page.images)
  text = ' '.join(page.text.split())
  for said in (
    'imagenet_a7,5001.2%',
    'imagenet_v2/topimages1100.0%100.0%',
    '30.0%',
    'mCE',
    f'{100 * results["imagenet2012_corrupted"]["mCE"]:.1f}%',
    'BG-Gap25.0 percentage points',
    'challenge score12.5%',
    'imagenet_r is not prepared; missing: imagenet_r',
  ):
    assert said.replace(' ', '') in text.replace(' ', ''), said
  assert page.code == [f'tfds build imagenet_r --data_dir=`{HOSTILE}']
  chart = next(p['alt'] for p in page.images if 'Top-1 accuracy by corruption' in p['alt'])
  assert 'glass blur 30.0%' in chart and 'saturate (extra) 30.0%' in chart
  assert f'Top-1, {HOSTILE}' in page.text and 'Top-1, imagenet a' not in page.text


def test_sets_that_are_there_in_part():
  """Four of fifteen corruptions have no mean; without any set there is no section."""
  few = {'imagenet2012_corrupted': _corruptions(['fog', 'snow', 'frost', 'contrast'])}
  (section,) = robustness_page.robustness_sections(few, {}, ['imagenet2012_corrupted'])
  _, corruptions = section.tables
  assert [row[1] for row in corruptions.rows] == ['–', '–']
  assert 'fog 30.0%' in section.images[0].alt and 'extra' not in section.images[0].alt
  (section,) = robustness_page.robustness_sections(
    {}, {'imagenet_a': 'imagenet_a: `do it`'}, ['imagenet_a']
  )
  assert section.commands == [('imagenet_a is not prepared; missing: imagenet_a', 'do it')]
  assert not section.tables and 'None of the sets' in section.text[0]
  assert robustness_page.robustness_sections({'imagenet_a': {}}, {}, []) == []


def test_icons_per_class_of_coco(synthetic_coco_ab, tmp_path, monkeypatch):
  config = coco_config(synthetic_coco_ab)
  _, state = initial(config)
  examples, drawn = samples.training_examples, []
  monkeypatch.setattr(
    samples, 'training_examples', lambda *args: drawn.append(examples(*args)) or drawn[0]
  )
  results = {'icons': {'mAP': 0.25, 'points_used': 0.1, 'ap_per_class': {'dog': 0.5, 'cat': 0.1}}}
  page = Page(_write(config, state, tmp_path, results, [f'${c}_' for c in range(80)])).check()
  has = np.isfinite(drawn[0].point).all(-1)
  assert has.shape == (96, 80) and has.any()
  for c, count in enumerate(has.sum(0)):
    assert (f'${c}_: {count} icon' in page.text) == bool(count)
  alts = [image['alt'] for image in page.images]
  assert any('Average precision per class on icons: dog 0.500, cat 0.100' in alt for alt in alts)
  assert any('predicted point of $' in alt for alt in alts)


def test_the_data_are_drawn_before_any_training(finished, tmp_path, capsys):
  config = finished[0].copy_and_resolve_references()
  config.data.byproduct, config.model.head = 'trace', 'linear'
  del config.data.eval_splits.clicks
  data_page.draw(config, tmp_path / 'new')
  assert [path.name for path in (tmp_path / 'new').iterdir()] == ['data.html']
  assert f'Open {tmp_path}/new/data.html' in capsys.readouterr().out
  page = Page(tmp_path / 'new/data.html').check()
  assert 'Evaluation images: uncorrelated' in page.text and '0 of these 4 have a point' in page.text
  assert 'Images of each class' in page.text and page.text.count('; no click recorded') >= 4
  assert len(page.images) == 4 + 1 + 4


def test_a_click_that_is_cropped_away_is_none_that_was_never_recorded(synthetic_imagenet_ab):
  config = short_config(synthetic_imagenet_ab)
  config.data.crop_scale = (0.05, 0.1)
  spec = pipeline.dataset_spec(config.data)
  # Counted from the records, without decoding images.
  source = Source(config.data, spec, config.data.train_split)
  clicks = [
    source.points(source.parse_byproducts(record))[1][0].numpy()
    for _, record in tfrecords.in_order(source.split)
  ]
  shown = samples.training_examples(config, len(clicks), 4)
  recorded, inside = shown.recorded[:, 0], np.isfinite(shown.point[:, 0]).all(-1)
  assert recorded.sum() == sum(clicks) and 0 < sum(clicks) < len(clicks)
  assert not (inside & ~recorded).any() and (recorded & ~inside).any()
  counts, images = samples.class_counts(config.data, spec)
  assert images == len(clicks)
  labels = np.bincount(shown.label, minlength=spec.num_classes)
  assert list(counts.values()) == labels.tolist()


def _render(page, folder, *options):
  return subprocess.run(
    [
      CHROMIUM,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      f'--user-data-dir={folder / "profile"}',
      '--window-size=1200,1600',
      *options,
      page.as_uri(),
    ],
    capture_output=True,
    text=True,
    check=True,
  ).stdout


@pytest.mark.skipif(not CHROMIUM, reason='no chromium here: apt-get install chromium')
def test_chromium_shows_every_image(finished, tmp_path):
  source = finished[1] / 'report.html'
  # Only the copy has a script: it records the width of every image.
  note = (
    "<script>addEventListener('load', () => document.body.dataset.widths = JSON.stringify("
    '[...document.images].map(image => image.naturalWidth)))</script></body>'
  )
  probed = tmp_path / 'probed.html'
  probed.write_text(source.read_text(encoding='utf-8').replace('</body>', note), encoding='utf-8')
  widths = json.loads(re.search('data-widths="(.*?)"', _render(probed, tmp_path, '--dump-dom'))[1])
  assert len(widths) == 18 and min(widths) >= 100
  shots = {}
  for name, scheme in (('dark', 0), ('light', 1)):
    path = tmp_path / f'{name}.png'
    scheme = f'--blink-settings=preferredColorScheme={scheme}'
    _render(source, tmp_path, f'--screenshot={path}', scheme)
    shots[name] = np.asarray(PIL.Image.open(path).convert('L'), np.float32)
    assert shots[name].std() > 20
  # The page follows the reader's colour scheme; its corner shows the background.
  assert shots['dark'][0, 0] < 60 and shots['light'][0, 0] > 200
