"""Studies of tiny runs, most of which are not trained but have made-up metrics."""

import functools
import json

import numpy as np

from configs import quickstart
from luab_jax.data.pipeline import EvalSplits, Rows, dataset_spec
from luab_jax.evaluate.outcomes import FILE
from luab_jax.runtime.workdir import prepare_workdir
from luab_jax.tools.study import duration, looks, output, page
from luab_jax.train import loop


def tiny_study(data_dir, **changes):
  """Config of a study with two seeds: two steps each, with 32 images of 32 px."""
  config = quickstart.get_config()
  config.batch_size, config.total_steps, config.log_every = 32, 2, 1
  config.eval_every_epochs, config.checkpoint_every_steps = 0.0, 1
  config.data.data_dir, config.data.train_split = data_dir, 'train[:90%]'
  config.data.eval_splits = {'uncorrelated': 'uncorrelated', 'heldout': 'train[90%:]'}
  config.data.image_size = config.data.eval_resize = 32
  config.study.seeds = 2
  config.study.update(changes)
  return config


@functools.cache
def _file_names(name, data_dir, split):
  config = quickstart.get_config()
  config.data.name, config.data.data_dir = name, data_dir
  config.data.image_size = config.data.eval_resize = 32
  splits = EvalSplits(config.data, dataset_spec(config.data), Rows(1))
  names = np.concatenate([batch['file_name'] for batch in splits.batches(split, names=True)[0]])
  return np.char.decode(names.astype(np.bytes_), 'utf-8')


def pretend(monkeypatch, *, really=(), dies_at=None, pages=False):
  """Replaces training by made-up metrics that depend on the config, except for folders in `really`.

  Returns the list of the folders that were trained, which grows. After `dies_at` of them, training
  raises KeyboardInterrupt. Nothing is timed, and nothing is drawn or written about the results
  unless `pages`.
  """
  trained, train_really = [], loop.train_and_evaluate

  def run(config, workdir, *, verbose):
    assert not verbose
    if len(trained) == dies_at:
      raise KeyboardInterrupt
    trained.append(f'{workdir.parent.name}/{workdir.name}')
    if trained[-1] in really:
      return train_really(config, workdir, verbose=verbose)
    workdir.mkdir(parents=True, exist_ok=True)
    prepare_workdir(workdir, config)
    with_clicks = config.loss.point_weight > 0 or config.loss.map_loss != 'none'
    fraction = config.data.byproduct_fraction * with_clicks
    rng = np.random.default_rng([config.seed, len(trained)])
    accuracy = 'mAP' if config.data.name.startswith('coco') else 'top1'
    results, outcomes = {}, {}
    for split, where in config.data.eval_splits.items():
      names = _file_names(config.data.name, config.data.data_dir, where)
      values = {accuracy: 0.5 + 0.2 * fraction + rng.normal(0, 0.01), 'pointing_cam': 0.25}
      if split == 'heldout':  # the only one with clicks
        values['click_error'] = 0.1 + rng.normal(0, 0.01)
        values |= {'click_error_centre': 0.25, 'click_error_mean': 0.24}
      results[split] = {'examples': len(names), 'top5': 1.0, 'ap_per_class': {'a': 0.5}, **values}
      outcomes[f'{split}/file_name'] = names
      outcomes |= {
        f'{split}/{metric}': np.full(len(names), value, np.float32)
        for metric, value in values.items()
        if metric != 'mAP'
      }
    summary = {
      'step': config.total_steps,
      'results': results,
      'machine': '1 x test',
      'versions': {'jax': '0.0'},
      'ms_per_step': None if trained[-1] == 'map_uniform/seed1' else rng.normal(100, 5),
    }
    (workdir / 'summary.json').write_text(json.dumps(summary))
    np.savez(workdir / FILE, **outcomes)
    return loop.Run(None, None, summary)

  monkeypatch.setattr(loop, 'train_and_evaluate', run)
  monkeypatch.setattr(duration, 'announce', lambda missing, number: None)
  if not pages:
    for module, name in ((output, 'write'), (looks, 'draw_looks'), (page, 'write')):
      monkeypatch.setattr(module, name, lambda *args: None)
  return trained
