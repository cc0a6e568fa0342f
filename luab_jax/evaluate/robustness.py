"""Robustness: ImageNet models on distribution-shifted versions of ImageNet.

`config.robustness` names the sets and where TFDS keeps them. A set that is not prepared is reported
with the command that prepares it; nothing is downloaded here.

| set | valid labels |
|---|---|
| imagenet2012 | validation label |
| imagenet2012_real | any of its ReaL labels (Beyer et al. 2020); images without one do not count |
| imagenet_v2 | label; three variants (Recht et al. 2019) |
| imagenet_r, imagenet_a | label; predictions are among the 200 classes present (Hendrycks et al.) |
| imagenet_sketch | label (Wang et al. 2019) |
| siscore | label; rotation, size, location (Djolonga et al. 2021) |
| imagenet2012_corrupted | label; 15 + 4 corruptions x 5 severities (Hendrycks & Dietterich 2019) |
| backgrounds_challenge | any class under the label of ImageNet-9 (Xiao et al. 2020) |

Images are resized and cropped as in evaluation. Those of the last two sets are already cropped to
the model's view: they are only resized, if the model's input has another size.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from luab_jax.data import pipeline, tfrecords
from luab_jax.data.dataset import DatasetSpec
from luab_jax.data.robustness_sets import Part, Source
from luab_jax.data.rows import Rows
from luab_jax.errors import UserError
from luab_jax.evaluate.metrics import mean_metrics
from luab_jax.evaluate.steps import make_foreground_step, make_label_set_step
from luab_jax.models import Variables
from luab_jax.models.losses import Sums
from luab_jax.runtime import parallel

Metrics = dict[str, Any]
Progress = Callable[[Iterable, int, str], Iterable]

# Top-1 error of AlexNet in %, mean over the five severities: normalises the corruption error.
# Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
# Perturbations", ICLR 2019, arXiv:1903.12261.
ALEXNET_ERROR = {
  'gaussian_noise': 88.6428,
  'shot_noise': 89.4468,
  'impulse_noise': 92.2640,
  'defocus_blur': 81.9880,
  'glass_blur': 82.6268,
  'motion_blur': 78.5948,
  'zoom_blur': 79.8360,
  'snow': 86.6816,
  'frost': 82.6572,
  'fog': 81.9324,
  'brightness': 56.4592,
  'contrast': 85.3204,
  'elastic_transform': 64.6056,
  'pixelate': 71.7840,
  'jpeg_compression': 60.6500,
}
EXTRA_CORRUPTIONS = ('gaussian_blur', 'saturate', 'spatter', 'speckle_noise')  # not in the mean
SEVERITIES = (1, 2, 3, 4, 5)
VARIATIONS = (
  'original',
  'mixed_same',
  'mixed_rand',
  'mixed_next',
  'only_fg',
  'no_fg',
  'only_bg_b',
  'only_bg_t',
)  # of ImageNet-9

_C, _IN9 = 'imagenet2012_corrupted', 'backgrounds_challenge'
_FOREGROUNDS = Part(f'{_IN9}/foregrounds', 'test', 'right_labels', cropped=True)
SETS = {
  'imagenet2012': (Part('imagenet2012', 'validation'),),
  'imagenet2012_real': (Part('imagenet2012_real', 'validation', 'real_label'),),
  'imagenet_v2': tuple(
    Part(f'imagenet_v2/{variant}', 'test')
    for variant in ('matched-frequency', 'threshold-0.7', 'topimages')
  ),
  'imagenet_r': (Part('imagenet_r', 'test', only_present=True),),
  'imagenet_a': (Part('imagenet_a', 'test', only_present=True),),
  'imagenet_sketch': (Part('imagenet_sketch', 'test'),),
  'siscore': tuple(
    Part(f'siscore/{factor}', 'test') for factor in ('rotation', 'size', 'location')
  ),
  _C: tuple(
    Part(f'{_C}/{name}_{severity}', 'validation', cropped=True)
    for name in (*ALEXNET_ERROR, *EXTRA_CORRUPTIONS)
    for severity in SEVERITIES
  ),
  _IN9: (
    *(Part(f'{_IN9}/variations', name, 'right_labels', cropped=True) for name in VARIATIONS),
    _FOREGROUNDS,
  ),
}
_NEEDS_FILES = ('imagenet2012', 'imagenet2012_real', _C, _IN9)  # whose licence forbids a download


class Prepared(NamedTuple):
  """Which of the named sets are prepared.

  Attributes:
    sources: {set: {Part: Source}}, the parts that are prepared.
    missing: {set: what is missing and the command that prepares it}.
  """

  sources: dict[str, dict[Part, Source]]
  missing: dict[str, str]


def check_sets(names: Iterable[str]) -> None:
  """Raises UserError for a name that is not in SETS."""
  for name in names:
    if name not in SETS:
      raise UserError(f"robustness.sets: no set '{name}': choose from {', '.join(SETS)}")


def prepared(options: ConfigDict, spec: DatasetSpec) -> Prepared:
  """Opens the sets that `config.robustness` names, and no others.

  Args:
    options: `config.robustness`: sets, data_dir.
    spec: of the model's training data.

  Raises:
    UserError: an unknown set, one with other classes, or a model with several labels per image.
  """
  check_sets(options.sets)
  sources, missing = {}, {}
  for name in options.sets:
    if spec.multi_label:
      raise UserError(
        f'robustness.sets: {name} has one label per image, {spec.name} several: add '
        '--config.robustness.sets="()"'
      )
    found = [part for part in SETS[name] if tfrecords.find_version(part.data, options.data_dir)]
    if len(found) < len(SETS[name]):
      absent = list(dict.fromkeys(part.data for part in SETS[name] if part not in found))
      missing[name] = f'{_abridged(absent)}: `{_command(name, absent, options.data_dir)}`'
    if found:
      sources[name] = {part: Source(part, options.data_dir, spec.class_names) for part in found}
  return Prepared(sources, missing)


def split_names(sources: dict[str, dict[Part, Source]]) -> set[str]:
  """The keys of what `SetEvaluator.evaluate` returns."""
  summarised = {name for name in sources if name in (_C, _IN9)}
  return summarised | {part.data for name in sources.keys() - summarised for part in sources[name]}


def _abridged(names: list[str]) -> str:
  return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _command(name: str, absent: list[str], data_dir: str) -> str:
  folder = f'tfds_builders/{name}' if name == _IN9 else name
  config = absent[0].partition('/')[2] if len(absent) == 1 else ''
  config = f' --config={config}' if config else ''
  files = ' --manual_dir=FOLDER_OF_RAW_FILES' if name in _NEEDS_FILES else ''
  return f'tfds build {folder}{config}{files} --data_dir={data_dir}'


class SetEvaluator:
  """Evaluates a model on prepared sets."""

  def __init__(
    self,
    model: nn.Module,
    variables: Variables,
    data: ConfigDict,
    *,
    batch_size: int,
    progress: Progress,
  ):
    """Compiles nothing yet.

    Args:
      model: Flax module.
      variables: replicated Flax variables.
      data: `config.data`, for the view.
      batch_size: global.
      progress: function (iterable, total, name) -> the same iterable with a progress bar.
    """
    self._label_set_step = parallel.map_step(make_label_set_step(model))
    self._foreground_step = parallel.map_step(make_foreground_step(model))
    self._variables = variables
    self._data = data
    self._batch_size = batch_size
    self._progress = progress

  def evaluate(self, sources: dict[str, dict[Part, Source]]) -> dict[str, Metrics]:
    """Evaluates all prepared sets.

    Args:
      sources: of `Prepared`.

    Returns:
      {split: metrics}. A set with several variants has one entry for each, 'imagenet_v2/topimages'.
      Metrics are examples (those that count) and the fractions top1 and top5; for
      imagenet2012_corrupted top1 and mCE (1 = AlexNet) over 15 corruptions x 5 severities, if all
      of them are prepared, and top1_by_corruption; for backgrounds_challenge top1_<variation>,
      bg_gap (mixed_same minus mixed_rand) and challenge: the fraction of foregrounds that the model
      classifies correctly on every one of the backgrounds of only_bg_t.
    """
    results: dict[str, Metrics] = {}
    for name, parts in sources.items():
      metrics = {
        part: self._part(part, source) for part, source in parts.items() if part != _FOREGROUNDS
      }
      if name == _C:
        results[name] = corrupted({part.data.partition('/')[2]: m for part, m in metrics.items()})
      elif name == _IN9:
        results[name] = _backgrounds({part.split: m for part, m in metrics.items()})
        if _FOREGROUNDS in parts and metrics:
          backgrounds = next(source for part, source in parts.items() if part.split == 'only_bg_t')
          results[name]['challenge'] = self._challenge(parts[_FOREGROUNDS], backgrounds)
      else:
        results |= {part.data: m for part, m in metrics.items()}
    return results

  def _part(self, part: Part, source: Source) -> Metrics:
    """The metrics examples, top1 and, with more than five classes, top5 of one part."""
    batches, count = self._batches(source)
    sharded = self._progress(parallel.prefetch(iter(batches)), count, f'{part.data} {part.split}')
    totals: Sums = {}
    for sums in _fetch_one_late(self._label_set_step(self._variables, batch) for batch in sharded):
      for name, (total, count) in sums.items():
        before = totals.get(name, (0.0, 0.0))
        totals[name] = (before[0] + float(total), before[1] + float(count))
    means = mean_metrics(totals, image_size=self._data.image_size)
    return {'examples': int(totals['top1'][1]), **means}

  def _batches(self, source: Source) -> tuple[pipeline.Batches, int]:
    rows = Rows(self._batch_size, jax.process_count(), jax.process_index())
    return pipeline.label_set_batches(self._data, source, rows)

  def _challenge(self, foregrounds: Source, backgrounds: Source) -> float:
    """The fraction of foregrounds that the model recognises on all backgrounds."""
    batches, _ = self._batches(backgrounds)
    shards = parallel.prefetch(
      {name: batch[name] for name in ('image', 'example_mask')} for batch in batches
    )
    fixed = (self._variables, parallel.stack_batches(list(shards)))
    # Every host tests all foregrounds against its own share of the backgrounds.
    examples, total = pipeline.label_set_batches(self._data, foregrounds, Rows(1))
    names = ('image', 'mask', 'valid_labels')
    recognised = _fetch_one_late(
      self._foreground_step(fixed, parallel.replicate({name: batch[name][0] for name in names}))
      for batch in self._progress(iter(examples), total, 'challenge')
    )
    return float(np.mean(list(recognised)))


def corrupted(metrics: dict[str, Metrics]) -> Metrics:
  """ImageNet-C's metrics.

  Args:
    metrics: {'fog_3': {examples, top1, ...}} of the prepared parts.

  Returns:
    examples (of all parts), top1_by_corruption {'fog': mean over the severities} of the
    corruptions with all five severities and, if all fifteen corruptions have them, top1 (their
    mean) and mCE (the mean of error / AlexNet's error).
  """
  means = {
    name: float(np.mean([metrics[f'{name}_{severity}']['top1'] for severity in SEVERITIES]))
    for name in (*ALEXNET_ERROR, *EXTRA_CORRUPTIONS)
    if all(f'{name}_{severity}' in metrics for severity in SEVERITIES)
  }
  result = {'examples': sum(m['examples'] for m in metrics.values()), 'top1_by_corruption': means}
  if means.keys() >= ALEXNET_ERROR.keys():
    result['top1'] = float(np.mean([means[name] for name in ALEXNET_ERROR]))
    result['mCE'] = float(
      np.mean([100 * (1 - means[name]) / error for name, error in ALEXNET_ERROR.items()])
    )
  return result


def _backgrounds(metrics: dict[str, Metrics]) -> Metrics:
  """ImageNet-9's metrics of {variation: {examples, top1, ...}}: of all eight, or of none."""
  result = {'examples': sum(m['examples'] for m in metrics.values())}
  result |= {f'top1_{name}': m['top1'] for name, m in metrics.items()}
  if metrics:
    result['bg_gap'] = result['top1_mixed_same'] - result['top1_mixed_rand']
  return result


def _fetch_one_late(results: Iterator) -> Iterator:
  """Fetches each result once the next one is dispatched: devices never idle nor queue up work."""
  before = next(results)
  for result in results:
    yield parallel.fetch(before)
    before = result
  yield parallel.fetch(before)
