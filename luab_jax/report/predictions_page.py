"""Sections of report.html on evaluation images: predictions, mistakes and click errors."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import ml_collections
import numpy as np

from luab_jax.data.dataset import DatasetSpec
from luab_jax.evaluate.predictor import Predictor
from luab_jax.evaluate.robustness import Metrics
from luab_jax.report import captions, html, plots, samples
from luab_jax.report.html import Section
from luab_jax.train.loop import Run

# Compiled once for a small batch, which fits in memory next to the training state.
_BATCH_SIZE = 32


class _Evaluated(NamedTuple):
  """Predictions on a split, and what is needed to draw them."""

  split: str
  predictions: samples.Predictions
  spec: DatasetSpec
  config: ml_collections.ConfigDict


def prediction_sections(
  run: Run, results: Mapping[str, Metrics], num_samples: int
) -> list[Section]:
  """Sections on single images: the first ones, confident mistakes and large click errors.

  Args:
    run: with `report_images` images in the first grid, half as many in the others.
    results: {split: metrics}, from which the splits to show are chosen.
    num_samples: number of images to evaluate per split.
  """
  config, spec = run.experiment.config, run.experiment.spec
  splits = config.data.eval_splits
  if not splits:
    return []
  predictor = Predictor(
    run.experiment.model,
    run.state.eval_variables(),
    data=config.data,
    class_names=spec.class_names,
    multi_label=spec.multi_label,
    is_trace=spec.is_trace,
    batch_size=_BATCH_SIZE,
  )
  with_points, hardest = _choose_splits(splits, results)
  evaluated = {
    name: _Evaluated(
      name, samples.predictions(predictor, spec, splits[name], num_samples), spec, config
    )
    for name in {with_points, hardest}
  }
  worst = max(config.report_images // 2, 1)
  return [
    _predictions_section(evaluated[with_points]),
    _mistakes_section(evaluated[hardest], worst),
    _click_errors_section(evaluated[with_points], worst),
  ]


def _choose_splits(splits: Mapping[str, str], results: Mapping[str, Metrics]) -> tuple[str, str]:
  """(split with the most points, split with the lowest accuracy) of eval_splits."""

  def metric(name: str, *keys: str) -> float:
    return next((results[name][k] for k in keys if k in results.get(name, {})), 0)

  return (
    max(splits, key=lambda name: metric(name, 'points_used')),
    min(splits, key=lambda name: metric(name, 'top1', 'mAP')),
  )


def _predictions_section(evaluated: _Evaluated) -> Section:
  errors = evaluated.predictions.click_errors()
  order = np.argsort(np.isnan(errors), kind='stable')[: evaluated.config.report_images]
  kind = 'attention' if evaluated.config.model.head == 'spatial' else 'class activation'
  text = [f'Images of {evaluated.split}, not selected by result.', _describe_map(evaluated)]
  return _section(f'Predictions and {kind} maps', text, evaluated, order)


def _mistakes_section(evaluated: _Evaluated, count: int) -> Section:
  score = evaluated.predictions.mistakes()
  order = [i for i in np.argsort(-score, kind='stable')[:count] if score[i] >= 0]
  text = (
    f'Of the first {len(score)} images of {evaluated.split}, those with the highest score for a '
    'class that is not in the image.'
  )
  if not order:
    text += ' There are none.'
  return _section('Most confident mistakes', [text], evaluated, order)


def _click_errors_section(evaluated: _Evaluated, count: int) -> Section:
  title, errors = 'Largest click errors', evaluated.predictions.click_errors()
  known = errors[np.isfinite(errors)]
  if not len(known):
    return Section(title, [f'The images of {evaluated.split} have no points.'])
  order = np.argsort(-errors, kind='stable')[: min(count, len(known))]  # NaN last
  text = (
    f'Of the first {len(errors)} images of {evaluated.split}, {len(known)} of them with a point '
    f'(median error {np.median(known):.3f} of the image side), those with the largest error. The '
    'click itself may be off the object: check this before blaming the model.'
  )
  return _section(title, [text], evaluated, order)


def _section(title: str, text: list[str], evaluated: _Evaluated, order: Iterable[int]) -> Section:
  images = [_draw_prediction(evaluated, i) for i in order]
  return Section(title, text, images=images, layout='wide', legend=_legend(evaluated))


def _legend(evaluated: _Evaluated) -> list[tuple[str, str]]:
  """(symbol of the template, meaning) of what is drawn on the images."""
  spec = evaluated.spec
  trace = spec.is_trace
  point = ' of a class with an icon' if spec.point_per_class else ', the end of the path' * trace
  legend = [('ring', f'recorded point{point}'), ('cross', f'predicted point{point}')]
  if trace:
    legend += [
      ('recorded_trajectory', 'recorded mouse path, starting at the square'),
      ('predicted_trajectory', 'predicted path, starting at the square'),
    ]
  if np.isfinite(evaluated.predictions.box).any():
    of_class = ' of the class named in the caption' if spec.multi_label else ''
    legend.append(
      ('box', f'ground-truth box{of_class}, clipped to the view (not every image has one)')
    )
  return legend


def _describe_map(evaluated: _Evaluated) -> str:
  model = evaluated.config.model
  if model.head == 'spatial':
    of_class = ' of the class named in the caption' if evaluated.spec.multi_label else ''
    return (
      f'Right: attention map of the spatial head{of_class}; brighter is more weight. The predicted '
      'point is its centre of mass, and the classifier gets the features weighted by it.'
    )
  text = (
    'Right: class activation map (CAM) of the class in the caption; brighter is more evidence for '
    'that class.'
  )
  if 'vit' in model.name:
    text += ' A ViT classifies from its class token, so its CAM is only a rough guide.'
  return text


def _draw_prediction(evaluated: _Evaluated, i: int) -> html.Image:
  """An evaluation image with its points and map; the caption has the prediction."""
  spec, found = evaluated.spec, evaluated.predictions
  predicted = found.predicted[i]
  if spec.multi_label:
    predicted = np.where(np.isfinite(found.point[i]), predicted, np.nan)
  wrong, caption = _describe_classes(found, i, spec)
  error = found.click_errors()[i]
  if np.isfinite(error):
    pixels = error * evaluated.config.data.image_size
    caption += f'; {"mean path" if spec.is_trace else "point"} error {pixels:.1f} px'
  marks = captions.marks(found.point[i], spec)
  marks += captions.marks(predicted, spec, recorded=False)
  boxes = found.box[i][np.isfinite(found.box[i]).all(-1)]
  paths = captions.trajectories(found.point[i], predicted, spec)
  return html.image(
    plots.image_and_map(found.image[i], found.weights[i], marks, boxes, paths),
    f'Evaluation image with {captions.describe_marks(marks)}'
    f'{captions.describe_boxes_and_trajectories(boxes, paths)}, and its map: {caption}',
    caption,
    wrong=wrong,
  )


def _describe_classes(found: samples.Predictions, i: int, spec: DatasetSpec) -> tuple[bool, str]:
  """(whether the top class is wrong, 'predicted classes and the correct ones')."""
  label, score = found.label[i], found.score[i]
  best, correct = score.argmax(), captions.format_classes(spec, label)
  if spec.multi_label:
    top = ', '.join(f'{spec.class_names[c]} {score[c]:.0%}' for c in np.argsort(-score)[:3])
    mapped = spec.class_names[found.map_class[i]]
    return not label[best], f'{top}; ground truth: {correct}; map of {mapped}'
  wrong = bool(best != label)
  verdict = f'ground truth: {correct}' if wrong else 'correct'
  return wrong, f'{spec.class_names[best]} {score[best]:.0%}; {verdict}'
