"""report.html of a run: one file, which opens from disk.

All pictures lie in the page itself, no script is needed, and everything shown is escaped. Only the
main host writes; nothing here waits for another one.
"""

import pathlib

import numpy as np

from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import data_page, html, plots, samples
from luab_jax.report.captions import (
  class_names,
  described,
  marks_of,
  paths_of,
  percent,
  told,
  told_boxes_and_paths,
)
from luab_jax.report.html import Section, Table
from luab_jax.report.robustness_page import robustness_sections, suite
from luab_jax.runtime import hosts
from luab_jax.train import metric_log

# Pictures are few; a fixed small batch compiles once and fits beside the training state.
_BATCH = 32

# What the figures mean, in the order of the rows; others follow without a word.
MEANINGS = {
  'examples': 'images evaluated',
  'top1': 'share of images whose likeliest class is right',
  'top5': 'share of images whose class is among the five likeliest',
  'mAP': 'mean over the classes of the average precision',
  'mAP_small': 'the same, of classes whose largest object has less than 32 x 32 px',
  'mAP_medium': 'the same, up to 96 x 96 px',
  'mAP_large': 'the same, above',
  'mAP_with_icon': 'the same, of the classes of an image, counting those with an icon only',
  'mAP_without_icon': 'the same, counting those that an annotator left without icon',
  'click_error': "mean distance between predicted and recorded points, 1 being the image's side",
  'click_error_px': "the same in pixels of the model's input",
  'maxboxacc_v2_attention': 'localisation by the attention map: MaxBoxAccV2, 1 is best',
  'maxboxacc_v2_cam': 'localisation by the class activation map: MaxBoxAccV2, 1 is best',
  'top1_loc_attention': 'share of images with the right class and an attention box of IoU 0.5',
  'top1_loc_cam': 'the same by the class activation map',
  'pointing_attention': "share of images where the attention's peak lies on the object",
  'pointing_cam': "share of images where the class activation map's peak lies on the object",
  'class_loss': 'cross-entropy',
  'point_loss': 'regression loss of the points',
  'points_used': 'share of places for a point that hold one (0: these images have no clicks)',
  'images_with_boxes': 'images that localisation is measured on',
  'images_without_boxes': 'images without a true box in the view, which it leaves out',
  'boxes_left_out': 'boxes beyond the first 100 of an image',
  'box_targets': 'classes present, over all images: each counts once',
  'classes_without_positives': 'classes that no image has: the mean leaves them out',
  **{
    f'positives_{group}': f'classes of an image that count in mAP_{group}'
    for group in ('small', 'medium', 'large', 'with_icon', 'without_icon')
  },
}
CURVES = {
  'loss': 'Training loss, all of it',
  'class_loss': 'Classification loss',
  'top1': 'Top-1 accuracy',
  'mAP': 'Mean average precision',
  'click_error': "Click error, 1 being the image's side",
  'point_loss': 'Point loss, before its weight',
}


def write_report(workdir, *, config, spec, model, variables, summary, writers=None):
  """Draws a finished or evaluated run into `<workdir>/report.html`.

  Args:
    workdir: folder of the run; its metrics.jsonl is read.
    config: the run's ml_collections.ConfigDict; `report_images` pictures a grid.
    spec: `pipeline.DatasetSpec`.
    model: Flax module.
    variables: unreplicated Flax variables (numpy).
    summary: what summary.json holds.
    writers: metric_writers.MetricWriters that show the predictions too.
  Returns:
    Path of the page; None on other than the main host, or where report_images is 0.
  Raises:
    UserError: an image that cannot be read, a folder that cannot be written.
  """
  count = config.report_images
  if not count or not hosts.is_main_host():
    return None
  workdir = pathlib.Path(workdir)
  sets = config.robustness.sets
  shifted = suite(summary['results'], sets)
  results = {name: figures for name, figures in summary['results'].items() if name not in shifted}
  train = samples.training_examples(config, data_page.SEARCHED, count)
  looked_at = _looked_at(model, variables, results, spec, config) if config.data.eval_splits else []
  if writers and looked_at:
    writers.images(summary['step'], 'predictions', looked_at[0].pictures)
  sections = [
    _results(results),
    *robustness_sections(shifted, summary['not_prepared'], sets),
    _curves(metric_log.read_lines(workdir), config.data.eval_splits),
    *looked_at,
    *data_page.training(train, spec, config, count),
    *(data_page.per_class(results, train, spec) if spec.multi_label else []),
    data_page.configuration(config, summary),
  ]
  return html.write(
    workdir / 'report.html',
    title=f'Report: {workdir.resolve().name}',
    subtitle=f'{described(config, spec)}; step {summary["step"]:,} of {summary["total_steps"]:,}; '
    f'{summary["parameters"]:,} parameters; on {summary["machine"]}.',
    tiles=_tiles(results),
    sections=sections,
  )


def _choose_splits(splits, results):
  """(the split whose images have most points, the one with the worst score) of eval_splits."""

  def figure(name, *keys):
    return next((results[name][k] for k in keys if k in results.get(name, {})), 0)

  return (
    max(splits, key=lambda name: figure(name, 'points_used')),
    min(splits, key=lambda name: figure(name, 'top1', 'mAP')),
  )


def _tiles(results):
  tiles = []
  for name, figures in results.items():
    for key, label in (('top1', 'top-1'), ('mAP', 'mAP'), ('click_error', 'click error')):
      if key in figures:
        text = f'{figures[key]:.3f}' if key == 'click_error' else f'{100 * figures[key]:.1f} %'
        tiles.append((f'{label}, {name}', text))
  return tiles


def _results(results):
  plain, folded = {}, []
  for name, figures in results.items():
    for key, value in figures.items():
      if isinstance(value, dict):
        parts = [[part, _text(v)] for part, v in value.items()]
        folded.append(Table(['', 'value'], parts, f'{name}: {key}'))
      else:
        plain.setdefault(key, {})[name] = value
  keys = [key for key in MEANINGS if key in plain] + sorted(plain.keys() - MEANINGS.keys())
  rows = [
    [key, *(_text(plain[key].get(name)) for name in results), MEANINGS.get(key, '')] for key in keys
  ]
  return Section(
    'Results',
    ['Every image of a split counts once. The same figures are in summary.json.'],
    tables=[Table(['', *results, 'meaning'], rows)],
    folded=folded,
  )


def _text(value):
  if value is None:
    return '–'
  if isinstance(value, float):
    return f'{value:.4f}'
  return f'{value:,}' if isinstance(value, int) else str(value)


def _curves(lines, splits):
  charts = []
  for key, title in CURVES.items():
    curves = {}
    for line in lines:
      if line['split'] in ('train', *splits) and np.isfinite(line.get(key, np.nan)):
        curves.setdefault(line['split'], []).append((line['step'], line[key]))
    if curves:
      told = '; '.join(
        f'{name} from {values[0][1]:.3g} at step {values[0][0]} to {values[-1][1]:.3g} at step '
        f'{values[-1][0]}'
        for name, values in curves.items()
      )
      charts.append(html.chart(plots.chart_of_curves(title, curves), f'{title} over steps: {told}'))
  text = (
    'Train: means over the steps since the point before, on augmented images. The other '
    'curves: whole evaluation splits.'
  )
  return Section(
    'Curves', [text if charts else 'No step was logged yet.'], pictures=charts, layout='charts'
  )


def _looked_at(model, variables, results, spec, config):
  """Sections on single evaluation images: any, the worst by class, the worst by click."""
  predictor = Predictor(
    model,
    variables,
    data=config.data,
    class_names=spec.class_names,
    multi_label=spec.multi_label,
    batch_size=_BATCH,
  )
  splits = config.data.eval_splits
  with_points, hardest = _choose_splits(splits, results)
  found = {
    name: samples.predictions(predictor, splits[name], data_page.SEARCHED)
    for name in {with_points, hardest}
  }
  worst = max(config.report_images // 2, 1)
  return [
    _predictions(found[with_points], with_points, spec, config),
    _mistakes(found[hardest], hardest, spec, config, worst),
    _click_errors(found[with_points], with_points, spec, config, worst),
  ]


def _predictions(found, split, spec, config):
  order = np.argsort(np.isnan(found.click_errors()), kind='stable')[: config.report_images]
  return Section(
    'Predictions and where the model looked',
    [f'Images of {split}, none of them picked for its result.', _what_map(config, spec)],
    pictures=[_prediction(found, i, spec, config) for i in order],
    layout='wide',
    legend=_legend(found, spec),
  )


def _legend(found, spec):
  """(symbol of the template, what it is) of what is drawn on the images."""
  of_class = ' of the class named in the caption' if spec.multi_label else ''
  legend = [
    ('ring', 'recorded point' + _which_point(spec)),
    ('cross', 'predicted point' + _which_point(spec)),
  ]
  if not spec.multi_label and spec.num_points > 1:
    legend += [
      ('true_path', 'recorded path of the mouse, from the square'),
      ('predicted_path', 'predicted path, from the square'),
    ]
  if np.isfinite(found.box).any():
    legend.append(('box', f'true box{of_class}, cut to the view (not every image has one)'))
  return legend


def _which_point(spec):
  if spec.multi_label:
    return ' of a class that has an icon'
  return ', the end of the path' if spec.num_points > 1 else ''


def _what_map(config, spec):
  if config.model.head == 'spatial':
    of = ' of the class named in the caption' if spec.multi_label else ''
    return (
      f"On the right the spatial head's attention map{of}, the brighter the more weight: the "
      'predicted point is its centre of mass, and the classifier sees the features weighted '
      'by it.'
    )
  text = (
    'On the right the class activation map (CAM) of the class in the caption: the brighter, '
    'the more a place speaks for that class.'
  )
  if 'vit' in config.model.name:
    text += ' A ViT classifies its class token, so its CAM is a rough guide only.'
  return text


def _mistakes(found, split, spec, config, count):
  score = found.mistakes()
  order = [i for i in np.argsort(-score, kind='stable')[:count] if score[i] >= 0]
  text = (
    f'Of the first {len(found.image)} images of {split}, those where the model gave the most '
    'to a class that the image does not have.'
  )
  if not order:
    text += ' There is no such image among them.'
  return Section(
    'Most confident mistakes',
    [text],
    layout='wide',
    legend=_legend(found, spec),
    pictures=[_prediction(found, i, spec, config) for i in order],
  )


def _click_errors(found, split, spec, config, count):
  errors = found.click_errors()
  order = [
    i for i in np.argsort(-np.nan_to_num(errors, nan=-1), kind='stable')[:count] if errors[i] >= 0
  ]
  if not order:
    return Section('Largest click errors', [f'The images of {split} have no points.'])
  known = errors[np.isfinite(errors)]
  text = (
    f'Of the first {len(found.image)} images of {split}, {len(known)} of them with a point '
    f'(median error {np.median(known):.3f} of the image), those with the largest error. A '
    'click can be far off the object too: look before you blame the model.'
  )
  return Section(
    'Largest click errors',
    [text],
    layout='wide',
    legend=_legend(found, spec),
    pictures=[_prediction(found, i, spec, config) for i in order],
  )


def _prediction(found, i, spec, config):
  """One evaluation image with its points and map, and what the model made of it."""
  label, score, error = found.label[i], found.score[i], found.click_errors()[i]
  likeliest = score.argmax()
  wrong = not label[likeliest] if spec.multi_label else likeliest != label
  predicted = found.predicted[i]
  if spec.multi_label:
    predicted = np.where(np.isfinite(found.point[i]), predicted, np.nan)
    said = ', '.join(f'{spec.class_names[c]} {percent(score[c])}' for c in np.argsort(-score)[:3])
    said += f'; truly {class_names(spec, label)}; map of {spec.class_names[found.map_class[i]]}'
  else:
    said = f'{spec.class_names[likeliest]} {percent(score[likeliest])}'
    said += f', but it is {class_names(spec, label)}' if wrong else ', right'
  if np.isfinite(error):
    what = 'path on average' if spec.num_points > 1 and not spec.multi_label else 'point'
    said += f'; {what} off by {error * config.data.image_size:.1f} px'
  marks = marks_of(found.point[i], spec) + marks_of(predicted, spec, true=False)
  boxes = found.box[i][np.isfinite(found.box[i]).all(-1)]
  paths = paths_of(found.point[i], predicted, spec)
  return html.photograph(
    plots.photograph_and_map(found.image[i], found.weights[i], marks, boxes, paths),
    f'Evaluation image with {told(marks)}{told_boxes_and_paths(boxes, paths)}, and the map beside '
    f'it: {said}',
    said,
    wrong=bool(wrong),
  )
