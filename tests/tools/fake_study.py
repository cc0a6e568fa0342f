"""Runs of a study that were never trained: folders with the files of a run and made-up results."""

import json
from types import SimpleNamespace

import numpy as np

from configs import quickstart
from luab_jax.evaluate.outcomes import FILE
from luab_jax.tools.study import plan, study

# {arm: (top-1, click error, MaxBoxAccV2 of the CAM and, for spatial heads, of the attention map)}
_LEVELS = {
  'baseline': (0.55, 0.4, 0.4),
  'luab_linear': (0.62, 0.13, 0.42),
  'linear_map': (0.62, 0.4, 0.45),
  'linear_shuffled': (0.57, 0.257, 0.4),
  'spatial_baseline': (0.38, 0.4, 0.47),
  'spatial_no_click': (0.74, 0.16, 0.3, 0.3),
  'luab_spatial': (0.95, 0.075, 0.29, 0.4),
  'spatial_map': (0.97, 0.072, 0.3, 0.9),
  'point_shuffled': (0.57, 0.257, 0.2, 0.2),
  'map_shuffled': (0.6, 0.26, 0.2, 0.2),
  'map_uniform': (0.5, 0.26, 0.2, 0.2),
}


def outcomes_of(arm, seed, images=200):
  """{'split/metric': f32[N]} of a run: outcomes per image, of the same images in all runs."""
  shared, own = np.random.default_rng(0), np.random.default_rng([seed, *arm.encode()])
  hard = shared.random(images)  # the same in all arms and seeds
  of_seed = own.normal(0, 0.01)
  arrays = {}

  def hit(level):
    luck = own.random(images)
    return np.float32((hard + luck) / 2 < level + of_seed)

  top1, error, *boxes = _LEVELS[arm]
  for split in ('correlated', 'uncorrelated'):
    arrays[f'{split}/file_name'] = np.array([f'{i // 2:03}_{i}.jpg' for i in range(images)])
    arrays[f'{split}/top1'] = hit(top1 if split == 'uncorrelated' else 0.5 + top1 / 2)
    for kind, level in zip(('cam', 'attention'), boxes, strict=False):
      arrays[f'{split}/maxboxacc_v2_{kind}'] = hit(level)
      arrays[f'{split}/epg_{kind}'] = hit(level) * np.float32(0.9)
  arrays['heldout_clicks/file_name'] = np.array([f'{i:03}.jpg' for i in range(images)])
  arrays['heldout_clicks/top1'] = hit(0.9)
  arrays['heldout_clicks/click_error'] = np.float32(own.normal(error, 0.03, images)).clip(0)
  arrays['heldout_clicks/click_error_centre'] = np.float32(shared.normal(0.257, 0.05, images))
  arrays['heldout_clicks/click_error_mean'] = np.float32(shared.normal(0.255, 0.05, images))
  arrays['heldout_clicks/click_error'][::10] = np.nan  # no click
  for constant in ('centre', 'mean'):
    arrays[f'heldout_clicks/click_error_{constant}'][::10] = np.nan
  return arrays


def write_run(folder, config, arrays, **changes):
  """Writes the files of a finished run, without checkpoints; returns its summary."""
  results = {}
  for name, values in arrays.items():
    split, _, metric = name.rpartition('/')
    if metric == 'file_name':
      results.setdefault(split, {})['examples'] = len(values)
    else:
      results.setdefault(split, {})[metric] = float(np.nanmean(values))
  summary = {
    'step': config.total_steps,
    'results': results,
    'machine': '1 x test',
    'versions': {'jax': '0.0'},
    'ms_per_step': 100.0 + config.seed,
    'not_prepared': {},
    **changes,
  }
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'summary.json').write_text(json.dumps(summary))
  np.savez(folder / FILE, **arrays)
  return summary


def config_of(**changes):
  """The quickstart's config with three seeds."""
  config = quickstart.get_config()
  config.study.seeds = 3
  config.study.update(changes)
  return config


def fake_study(workdir, images=200, **changes):
  """(config, result of `study.collect`) for a study of such runs."""
  config = config_of(**changes)
  experiment = SimpleNamespace(
    total_steps=100,
    num_examples=4050,
    splits=SimpleNamespace(num_examples=lambda: dict.fromkeys(config.data.eval_splits, images)),
    spec=SimpleNamespace(multi_label=False),
  )
  runs = plan.plan_runs(config, experiment)
  summaries = {
    folder: write_run(workdir / folder, run, outcomes_of(folder.split('/')[-2], run.seed, images))
    for folder, run in runs.items()
  }
  return config, study.collect(config, workdir, experiment, runs, summaries)
