"""What a study reports about finished runs: differences, verdicts, tables, plots and pages."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from luab_jax.errors import UserError
from luab_jax.evaluate.outcomes import FILE
from luab_jax.tools.study import intervals, metrics, output, page, plan, plots, verdicts
from luab_jax.tools.study.intervals import Interval, interval
from luab_jax.tools.study.outcomes import Outcomes
from tests.tools.fake_study import config_of, fake_study, outcomes_of, write_run


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """(workdir, result) of a study of all arms with three seeds and 200 images."""
  workdir = tmp_path_factory.mktemp('study')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(intervals, 'DRAWS', 400)
    _, result = fake_study(workdir, byproduct_fractions=(0.0, 1.0))
    yield workdir, result


def test_differences_are_paired_by_seed_and_image(study):
  workdir, result = study
  metric = 'uncorrelated/top1'
  pair = next(c for c in result['comparisons'] if c['arm'] == 'spatial_map')
  arrays = [
    np.stack([np.load(workdir / arm / f'seed{seed}' / FILE)[metric] for seed in range(3)])
    for arm in ('spatial_map', 'spatial_no_click')
  ]
  assert pair['reference'] == 'spatial_no_click'
  values = arrays[0] - arrays[1]
  expected = interval(
    intervals.Sample(values.mean(1), intervals.resample(values, np.arange(200)), 200, 200)
  )
  found = pair['metrics'][metric]
  assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
  assert found.mean == pytest.approx(values.mean()) and found.images == 200
  own = result['arms']['spatial_map']['metrics'][metric]
  assert own.mean == pytest.approx(arrays[0].mean()) and own.high <= 1


def test_verdicts_in_words(study):
  said = study[1]['verdicts']
  clicks = said['Do clicks help the spatial head?']
  assert re.fullmatch(
    r'Compared with no clicks, the map loss of the spatial head raises top-1 on uncorrelated \(by '
    r'\d+\.\d to \d+\.\d points\); no difference in top-1 is shown on correlated \(−\d\.\d to '
    r'\+\d\.\d points\), on heldout_clicks \(−\d\.\d to \+\d\.\d points\) \(200 images, 3 '
    r'seeds\)\.',
    clicks[2],
  )
  assert re.fullmatch(
    r'By MaxBoxAccV2, the attention map of spatial_map, compared with the CAM of spatial_baseline, '
    r'is better on correlated \(\d\d\.\d and \d\d\.\d; by \d\d\.\d to \d\d\.\d points\), on '
    r'uncorrelated \(.* points\) \(200 images, 3 seeds\)\.',
    said[verdicts.BOXES][-1],
  )
  places = {sentence.split()[0]: sentence for sentence in said[verdicts.PLACES]}
  assert re.search(
    r'has learned nothing about position on heldout_clicks: click error 0\.25\d \(0\.2\d\d to '
    r'0\.2\d\d\), always the centre 0\.25\d, always the mean click 0\.2\d\d \(180 images',
    places['linear_shuffled'],
  )
  assert 'predicts the place of the click' in places['luab_linear']
  # Their points were never trained.
  assert not {'baseline', 'linear_map', 'spatial_baseline'} & places.keys()


def test_a_lower_score_and_too_little_in_words():
  comparison = {'subject': 'the map loss', 'against': 'no clicks'}
  said = verdicts._compare(
    comparison,
    'top1',
    {
      'few': Interval(0.1, None, None, 5, 6, 6, '6 images'),
      'v': Interval(-0.1, -0.121, -0.032, 5, 1000, 1000),
      'w': Interval(0.1, 0.01, 0.2, 5, 1000, 120),
    },
  )
  assert said == (
    'Compared with no clicks, the map loss lowers top-1 on v (by 3.2 to 12.1 points; 1,000 images, '
    '5 seeds); raises top-1 on w (by 1.0 to 20.0 points; 1,000 images in 120 units, 5 seeds); '
    'nothing can be said about top-1 on few (6 images).'
  )


def test_few_images_give_no_interval(tmp_path):
  _, result = fake_study(tmp_path, images=6, arms=('baseline', 'luab_linear'))
  output.write(result, tmp_path)
  text = (tmp_path / 'study.md').read_text()
  assert 'Warning: correlated has 6 images: too few (at least 50' in text
  assert (
    'nothing can be said about top-1 on correlated, on heldout_clicks, on uncorrelated (6 images).'
    in text
  )
  assert ' to ' not in text.split('### Accuracy')[1].split('###')[0]


def test_images_of_a_unit_count_as_one(tmp_path):
  arms = {'arms': ('baseline', 'luab_linear')}
  _, result = fake_study(tmp_path, unit=r'^(\d+)', **arms)
  value = result['arms']['baseline']['metrics']['uncorrelated/top1']
  assert (value.images, value.units) == (200, 100)
  with pytest.raises(UserError, match=r"study.unit='_\(x\)_' does not match '000_0.jpg'"):
    fake_study(tmp_path, unit='_(x)_', **arms)


def test_runs_on_different_images_are_not_compared(tmp_path):
  config = config_of(arms=('baseline', 'luab_linear'), seeds=1)
  runs = plan.plan_runs(config, SimpleNamespace(total_steps=100, num_examples=4050))
  summaries = {
    folder: write_run(tmp_path / folder, run, outcomes_of('baseline', 0, images=60 + i))
    for i, (folder, run) in enumerate(runs.items())
  }
  with pytest.raises(UserError, match='were evaluated on different images of correlated'):
    Outcomes(runs, summaries, tmp_path, '')


@pytest.mark.slow
def test_files(study):
  workdir, result = study
  output.write(result, workdir)
  page.write(result, workdir, [], output.hardest_split(result))
  written = json.loads((workdir / 'study.json').read_text())
  assert written['verdicts'] == result['verdicts']
  value = written['arms']['spatial_map']['metrics']['uncorrelated/top1']
  assert 0.5 < value['low'] < value['mean'] < value['high'] <= 1 and value['excludes_zero']
  text = (workdir / 'study.md').read_text()
  assert '| baseline |' in text and '## Fraction of the images with byproducts' in text
  assert '| luab_linear − baseline |' in text and 'click error, heldout_clicks |' in text
  assert re.search(r'\| always the centre \| 0\.2\d\d ', text)
  html = (workdir / 'study.html').read_text()
  assert html.count('<svg class="arms"') == 2 and 'the map loss of the spatial head raises' in html
  assert 'http' not in html.replace('http-equiv', '').replace('http://www.w3.org/', '')
  assert 'spatial head with map loss, λ = 0.3' in html


def test_axes_of_percentages_end_at_0_and_100(study):
  result = study[1]
  names = plots.metric_names(result)
  assert {'top1', 'click_error', 'maxboxacc_v2_cam', 'epg_attention'} <= set(names)
  for name in names:
    figure = plots.plot_arms(result, [name])
    limits = [axes.get_xlim() for axes in figure.subfigs[0].axes if axes.axison]
    percentage = name != 'ms_per_step' and metrics.is_percentage(f'v/{name}')
    highest = 100 if percentage else np.inf
    assert limits and all(0 <= low < high <= highest for low, high in limits)


def test_arms_of_one_network_share_their_baseline(tmp_path):
  _, result = fake_study(tmp_path, linear_model='tiny_conv', seeds=1)
  assert 'spatial_baseline' not in result['arms']
  against = {(c['arm'], c['reference']) for c in result['comparisons']}
  assert ('spatial_map', 'baseline') in against and ('luab_linear', 'baseline') in against
  assert not any('spatial_baseline' in pair for pair in against)


def test_metrics_of_a_summary():
  summary = {
    'results': {
      'b': {
        'examples': 40,
        'class_loss': 1.5,
        'mAP': float('nan'),
        'click_error': 0.2,
        'maxboxacc_v2_cam': 0.4,
        'images_with_boxes': 3,
        'ap_per_class': {'x': 0.1},
      },
      'a': {'top1': 0.5, 'click_error': 0.1},
    },
    'ms_per_step': 12.5,
  }
  assert list(metrics.summary_metrics(summary, points_trained=True).items()) == [
    ('a/top1', 0.5),
    ('a/click_error', 0.1),
    ('b/click_error', 0.2),
    ('b/maxboxacc_v2_cam', 0.4),
    (metrics.COST, 12.5),
  ]
  assert 'a/click_error' not in metrics.summary_metrics(summary, points_trained=False)


@pytest.mark.parametrize(
  ('metric', 'text', 'group'),
  [
    ('a_b/top1', 'top-1, a_b', 'Accuracy'),
    ('v/mAP_small', 'mAP small, v', 'Accuracy'),
    ('v/top1_loc_cam', 'top-1 localisation of CAM, v', 'Pointing game and top-1 localisation'),
    (
      'v/maxboxacc_v2_log_attention',
      'MaxBoxAccV2 of the logarithm of the attention map, v',
      metrics.MAPS,
    ),
    ('v/epg_attention', 'energy pointing game of the attention map, v', metrics.MAPS),
    ('v/click_error', 'click error, v', 'Click position'),
    (metrics.COST, 'ms per step', 'Other'),
  ],
)
def test_metrics_in_words(metric, text, group):
  assert metrics.describe(metric) == text and metrics.group(metric) == group


def test_values_in_words():
  value = Interval(-1e-9, -0.012, 0.023, 5)
  assert metrics.format_interval('v/top1', value, signed=True) == '+0.0 (−1.2 to +2.3)'
  assert metrics.format_interval('v/click_error', Interval(0.0744, 0.07, 0.08, 5)) == (
    '0.074 (0.070 to 0.080)'
  )
  single = Interval(93.21, None, None, 1)
  assert metrics.format_interval(metrics.COST, single, seeds=2) == '93.2 [n = 1]'
  assert metrics.format_interval('v/top1', None) == '–'
