"""What a run gets to see, drawn before any training: data.html, and its parts in report.html."""

import pathlib

import numpy as np

from luab_jax.data import pipeline
from luab_jax.report import html, plots, samples
from luab_jax.report.captions import class_names, described, marks_of, percent, told
from luab_jax.report.html import Section, Table
from luab_jax.runtime import hosts

# Images to count and to search in: enough for a picture of the data, few enough to cost seconds.
SEARCHED = 256


def draw(config, workdir):
  """Draws what a run of `config` would train and be evaluated on into `<workdir>/data.html`.

  Needs the built data set alone, no run, and says where the page is.

  Args:
    config: ml_collections.ConfigDict; `report_images` (0: twelve) pictures a grid.
    workdir: folder; created if it does not exist.
  Raises:
    UserError: missing data, a wrong option, an image that cannot be read, a folder that cannot be
      written.
  """
  if not hosts.is_main_host():
    return
  spec = pipeline.dataset_spec(config.data)
  count = config.report_images or 12
  train = samples.training_examples(config, SEARCHED, count)
  sizes = Table(['split', 'images'], [[k, f'{v:,}'] for k, v in spec.num_examples.items()])
  sections = [
    Section('Data set', [f'{spec.name} has {spec.num_classes} classes.'], tables=[sizes]),
    *training(train, spec, config, count),
    *(per_class({}, train, spec) if spec.multi_label else []),
    *(
      _evaluation_images(samples.evaluation_images(config.data, split, count), name, split, spec)
      for name, split in config.data.eval_splits.items()
    ),
    configuration(config, None),
  ]
  workdir = pathlib.Path(workdir)
  drawn = html.write(
    workdir / 'data.html',
    title=f'Data: {workdir.resolve().name}',
    subtitle=f'What a run of this configuration gets to see: {described(config, spec)}.',
    tiles=[],
    sections=sections,
  )
  print(f'Pictures: open {drawn}')


def training(train, spec, config, count):
  """Sections on the training images: a grid of them, and where their points lie."""
  points = train.point[np.isfinite(train.point).all(-1)]
  what = 'icons' if spec.multi_label else 'clicks'
  text = [
    'The first images of the first epoch exactly as the model gets them: cropped, resized, '
    f'flipped. Green rings: {what}, moved along with the pixels.'
  ]
  if config.data.control != 'none':
    text.append(
      f'The points are those of the control {config.data.control!r}: not the recorded '
      'ones of these images.'
    )
  if train.trace is not None and np.isfinite(train.trace).any():
    text.append(
      'Lines: the mouse on its way to the click, evenly spaced in time from dark (first) '
      'to light (last); what lies outside the crop is left out.'
    )
  pictures = []
  for i in range(min(count, len(train.image))):
    trace = None if train.trace is None else train.trace[i]
    pictures.append(_training_image(train.image[i], train.label[i], train.point[i], trace, spec))
  grid = Section('Training images after augmentation', text, pictures=pictures)
  share = np.isfinite(train.point).all(-1).any(-1).mean()
  where = Section(
    f'Where the {what} lie',
    [f'Of the first {len(train.image)} training images {percent(share)} have one inside the crop.'],
    layout='charts',
  )
  if len(points):
    centre = points.mean(0)
    where.pictures.append(
      html.chart(
        plots.chart_of_positions(f'{len(points)} {what} in the crop', points),
        f'Heat map of the positions of {len(points)} {what}; their mean lies at '
        f'({centre[0]:.2f}, {centre[1]:.2f})',
      )
    )
  return [grid, where]


def first_images(batch, spec, count):
  """Pictures of the first `count` images of a training batch (see pipeline)."""
  points = np.where(batch['point_mask'][..., None] > 0, batch['point'], np.nan)
  traces = points.shape[1] > 1 and not spec.multi_label
  return [
    _training_image(image, label, point, point if traces else None, spec)
    for image, label, point in zip(
      batch['image'][:count], batch['label'][:count], points[:count], strict=True
    )
  ]


def _training_image(image, label, point, trace, spec):
  marks = marks_of(point, spec)
  if trace is not None and np.isnan(trace).all():
    trace = None
  name = class_names(spec, label)
  missing = '' if marks else f'; no {"icon" if spec.multi_label else "click"} inside the crop'
  return html.photograph(
    plots.photograph(image, marks, trace),
    f'Training image: {name}, {told(marks)}{"" if trace is None else ", with its mouse trace"}',
    name + missing,
  )


def per_class(results, train, spec):
  """COCO: sections on how many icons and which average precision a class has, and examples."""
  has = np.isfinite(train.point).all(-1)
  counts = has.sum(0)
  order = [c for c in np.argsort(-counts, kind='stable') if counts[c]]
  if not order:
    return [Section('Icons per class', ['None of the first training images has an icon.'])]
  charts = [
    html.chart(
      plots.chart_of_bars(
        'Icons', [spec.class_names[c] for c in order], [int(counts[c]) for c in order]
      ),
      'Icons per class: ' + ', '.join(f'{spec.class_names[c]} {counts[c]}' for c in order),
    )
  ]
  for split, figures in results.items():
    precision = figures.get('ap_per_class')
    if precision:
      ranked = sorted(precision, key=precision.get, reverse=True)
      charts.append(
        html.chart(
          plots.chart_of_bars(
            f'Average precision, {split}', ranked, [precision[n] for n in ranked]
          ),
          f'Average precision per class on {split}: '
          + ', '.join(f'{name} {precision[name]:.3f}' for name in ranked),
        )
      )
  pictures = []
  for c in order:
    i = int(has[:, c].argmax())
    mark = plots.Mark(*train.point[i, c].tolist(), True, spec.class_names[c])
    pictures.append(
      html.photograph(
        plots.photograph(train.image[i], [mark]),
        f'Training image with {told([mark])}',
        f'{spec.class_names[c]}: {counts[c]} icons',
      )
    )
  text = f'Icons inside the crop, of the first {len(train.image)} training images.'
  return [
    Section('Icons per class', [text], pictures=charts, layout='charts'),
    Section('An icon of each class', ['The first training image that has one.'], pictures=pictures),
  ]


def _evaluation_images(batch, report_name, split, spec):
  marks = [marks_of(point, spec) for point in batch.point]
  names = [class_names(spec, label) for label in batch.label]
  return Section(
    f'Evaluation images: {report_name}',
    [
      f'The first ones of {split}, in their order: resized, centre crop. '
      f'{sum(map(bool, marks))} of these {len(marks)} have a point.'
    ],
    pictures=[
      html.photograph(
        plots.photograph(image, mark), f'Evaluation image: {name}, {told(mark)}', name
      )
      for image, mark, name in zip(batch.image, marks, names, strict=True)
    ],
  )


def configuration(config, summary):
  """All keys of the config and, of a run, what it ran on."""
  rows = [[key, str(value)] for key, value in _flat(config.to_dict())]
  text = ['All keys of the configuration.']
  if summary:
    versions = ', '.join(f'{name} {version}' for name, version in summary['versions'].items())
    text.append(f'Run with {versions}, on {summary["machine"]}.')
  return Section('Configuration', text, folded=[Table(['key', 'value'], rows, f'{len(rows)} keys')])


def _flat(tree, prefix=''):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value
