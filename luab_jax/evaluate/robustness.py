"""The evaluation suite: ImageNet models on ImageNet's shifted versions.

`config.robustness` names the sets and where TFDS keeps them. A set that is not prepared is reported
with the command that prepares it; nothing is downloaded here.

| set | what counts as right |
|---|---|
| imagenet2012 | validation label |
| imagenet2012_real | any of its ReaL labels (Beyer et al. 2020); images without one do not count |
| imagenet_v2 | label; three variants (Recht et al. 2019) |
| imagenet_r, imagenet_a | label; predictions are among the 200 classes present (Hendrycks et al.) |
| imagenet_sketch | label (Wang et al. 2019) |
| siscore | label; rotation, size, location (Djolonga et al. 2021) |
| imagenet2012_corrupted | label; 15 + 4 corruptions x 5 severities (Hendrycks & Dietterich 2019) |
| backgrounds_challenge | any class under the label of ImageNet-9 (Xiao et al. 2020) |

Images are resized and cropped as in evaluation, but for the last two sets, whose images are cut to
the model's view already: those are only resized, if the model's input has another size.
"""

from typing import NamedTuple

import jax
import numpy as np

from luab_jax.data import pipeline, robustness_sets, tfrecords
from luab_jax.errors import UserError
from luab_jax.runtime import parallel
from luab_jax.train.step import mean_metrics

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
_FOREGROUNDS = robustness_sets.Part(f'{_IN9}/foregrounds', 'test', 'right_labels', cut=True)
SETS = {
  'imagenet2012': (robustness_sets.Part('imagenet2012', 'validation'),),
  'imagenet2012_real': (robustness_sets.Part('imagenet2012_real', 'validation', 'real_label'),),
  'imagenet_v2': tuple(
    robustness_sets.Part(f'imagenet_v2/{variant}', 'test')
    for variant in ('matched-frequency', 'threshold-0.7', 'topimages')
  ),
  'imagenet_r': (robustness_sets.Part('imagenet_r', 'test', only_present=True),),
  'imagenet_a': (robustness_sets.Part('imagenet_a', 'test', only_present=True),),
  'imagenet_sketch': (robustness_sets.Part('imagenet_sketch', 'test'),),
  'siscore': tuple(
    robustness_sets.Part(f'siscore/{factor}', 'test') for factor in ('rotation', 'size', 'location')
  ),
  _C: tuple(
    robustness_sets.Part(f'{_C}/{name}_{severity}', 'validation', cut=True)
    for name in (*ALEXNET_ERROR, *EXTRA_CORRUPTIONS)
    for severity in SEVERITIES
  ),
  _IN9: (
    *(
      robustness_sets.Part(f'{_IN9}/variations', name, 'right_labels', cut=True)
      for name in VARIATIONS
    ),
    _FOREGROUNDS,
  ),
}
_NEEDS_FILES = ('imagenet2012', 'imagenet2012_real', _C, _IN9)  # that nobody may hand on


class Prepared(NamedTuple):
  """What of the named sets is there.

  Attributes:
    sources: {set: {Part: answers.Source}}, the parts that are there.
    missing: {set: what is missing and the command that prepares it}.
  """

  sources: dict
  missing: dict


def prepared(options, spec) -> Prepared:
  """Looks up the sets that `config.robustness` names.

  Args:
    options: `config.robustness`: sets, data_dir.
    spec: DatasetSpec of the model's training data.

  Raises:
    UserError: an unknown set, one with other classes, or a model with several labels an image.
  """
  sources, missing = {}, {}
  for name in options.sets:
    if name not in SETS:
      raise UserError(f"robustness.sets: no set '{name}': choose from {', '.join(SETS)}")
    if spec.multi_label:
      raise UserError(
        f'robustness.sets: {name} has one label an image, and {spec.name} several: '
        '--config.robustness.sets="()"'
      )
    there = [p for p in SETS[name] if tfrecords.find_version(p.data, options.data_dir)]
    if len(there) < len(SETS[name]):
      absent = list(dict.fromkeys(p.data for p in SETS[name] if p not in there))
      missing[name] = f'{_some(absent)}: `{_command(name, absent, options.data_dir)}`'
    if there:
      sources[name] = {
        part: robustness_sets.Source(part, options.data_dir, spec.class_names) for part in there
      }
  return Prepared(sources, missing)


def report_names(sources) -> set:
  """What `evaluate_sets` calls its results."""
  whole = {name for name in sources if name in (_C, _IN9)}
  return whole | {part.data for name in sources.keys() - whole for part in sources[name]}


def _some(names):
  return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _command(name, absent, data_dir):
  folder = f'tfds_builders/{name}' if name == _IN9 else name
  config = absent[0].partition('/')[2] if len(absent) == 1 else ''
  config = f' --config={config}' if config else ''
  files = ' --manual_dir=FOLDER_OF_RAW_FILES' if name in _NEEDS_FILES else ''
  return f'tfds build {folder}{config}{files} --data_dir={data_dir}'


def evaluate_sets(sources, answer_step, foreground_step, variables, data, *, batch_size, progress):
  """Evaluates all sets that are there.

  Args:
    sources: of `Prepared`.
    answer_step, foreground_step: pmapped, of `step.make_answer_step`, `step.make_foreground_step`.
    variables: replicated Flax variables.
    data: `config.data`, for the view.
    batch_size: global.
    progress: function (iterable, total, name) -> the same iterable with a bar.

  Returns:
    {report name: figures}. A set of several variants has one entry for each,
    'imagenet_v2/topimages'. Figures are fractions: top1, top5, examples (those that count); of
    imagenet2012_corrupted top1 and mCE (1 = AlexNet) over 15 corruptions x 5 severities, if all of
    them are there, and top1_by_corruption; of backgrounds_challenge top1_<variation>, bg_gap
    (mixed_same minus mixed_rand) and challenge: the share of foregrounds that the model gets
    right on every one of the backgrounds of only_bg_t.
  """
  results = {}
  for name, parts in sources.items():
    done = {}
    for part, source in parts.items():
      if part != _FOREGROUNDS:
        done[part] = _evaluate(source, answer_step, variables, data, batch_size, progress, part)
    if name == _C:
      results[name] = corrupted(
        {part.data.partition('/')[2]: figures for part, figures in done.items()}
      )
    elif name == _IN9:
      results[name] = _backgrounds({part.split: figures for part, figures in done.items()})
      if _FOREGROUNDS in parts and done:
        backgrounds = next(source for part, source in parts.items() if part.split == 'only_bg_t')
        results[name]['challenge'] = _challenge(
          parts[_FOREGROUNDS], backgrounds, foreground_step, variables, data, batch_size, progress
        )
    else:
      results |= {part.data: figures for part, figures in done.items()}
  return results


def _evaluate(source, step, variables, data, batch_size, progress, part):
  """examples, top1 and top5 of one part."""
  batches, count = pipeline.answer_batches(
    data, source, batch_size=batch_size, num_hosts=jax.process_count(), host=jax.process_index()
  )
  totals = {'top1': (0.0, 0.0), 'top5': (0.0, 0.0)}
  shown = progress(parallel.prefetch(iter(batches)), count, f'{part.data} {part.split}')
  for values in _one_late(step(variables, batch) for batch in shown):
    totals = {n: (t + float(values[n][0]), c + float(values[n][1])) for n, (t, c) in totals.items()}
  return {'examples': int(totals['top1'][1]), **mean_metrics(totals, image_size=data.image_size)}


def corrupted(figures) -> dict:
  """ImageNet-C's figures.

  Args:
    figures: {'fog_3': {examples, top1, ...}} of the parts that are there.

  Returns:
    examples (of all parts), top1_by_corruption {'fog': mean over the severities} of the
    corruptions with all five, and, if all fifteen have, their mean top1 and the mCE: the mean of
    error / AlexNet's error.
  """
  means = {
    name: float(np.mean([figures[f'{name}_{severity}']['top1'] for severity in SEVERITIES]))
    for name in (*ALEXNET_ERROR, *EXTRA_CORRUPTIONS)
    if all(f'{name}_{severity}' in figures for severity in SEVERITIES)
  }
  result = {'examples': sum(f['examples'] for f in figures.values()), 'top1_by_corruption': means}
  if means.keys() >= ALEXNET_ERROR.keys():
    result['top1'] = float(np.mean([means[name] for name in ALEXNET_ERROR]))
    result['mCE'] = float(
      np.mean([100 * (1 - means[name]) / error for name, error in ALEXNET_ERROR.items()])
    )
  return result


def _backgrounds(figures):
  """ImageNet-9's figures of {variation: {examples, top1, ...}}: of all eight, or of none."""
  result = {'examples': sum(f['examples'] for f in figures.values())}
  result |= {f'top1_{name}': f['top1'] for name, f in figures.items()}
  if figures:
    result['bg_gap'] = result['top1_mixed_same'] - result['top1_mixed_rand']
  return result


def _challenge(foregrounds, backgrounds, step, variables, data, batch_size, progress):
  """Share of the foregrounds that no background fools the model about."""
  hosts = {'num_hosts': jax.process_count(), 'host': jax.process_index()}
  batches, _ = pipeline.answer_batches(data, backgrounds, batch_size=batch_size, **hosts)
  shards = list(
    parallel.prefetch(
      {name: batch[name] for name in ('image', 'example_mask')} for batch in batches
    )
  )
  fixed = (variables, parallel.stack_batches(shards))
  # Every host goes through all foregrounds, each against its own backgrounds.
  examples, total = pipeline.answer_batches(data, foregrounds, batch_size=1)
  shown = progress(iter(examples), total, 'challenge')
  robust = _one_late(
    step(fixed, parallel.replicate({n: batch[n][0] for n in ('image', 'mask', 'right')}))
    for batch in shown
  )
  return float(np.mean(list(robust)))


def _one_late(results):
  """Fetches each result when its successor is on its way: the devices neither wait nor queue."""
  before = next(results)
  for result in results:
    yield parallel.fetch(before)
    before = result
  yield parallel.fetch(before)
