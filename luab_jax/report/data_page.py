"""Model input as images, before any training: data.html, and sections of report.html."""

import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from luab_jax.data.dataset import Batch, DatasetSpec, dataset_spec
from luab_jax.evaluate.robustness import Metrics
from luab_jax.report import captions, charts, html, plots, samples
from luab_jax.report.html import Section, Table
from luab_jax.report.samples import Examples
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import flatten

# Number of images for statistics, which then take a few seconds.
NUM_SAMPLES = 256


def draw(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Writes `<workdir>/data.html`: the images a run of `config` is trained and evaluated on.

  Needs the built dataset, but no run. Prints where the page is.

  Args:
    config: of the run; `report_images` images per grid (twelve if it is 0).
    workdir: folder; created if it does not exist.
  Raises:
    UserError: missing data, an invalid option, an image that cannot be read, a folder that cannot
      be written.
  """
  if not hosts.is_main_host():
    return
  spec = dataset_spec(config.data)
  count = config.report_images or 12
  train = samples.training_examples(config, NUM_SAMPLES, count)
  sizes = Table(['split', 'images'], [[k, f'{v:,}'] for k, v in spec.num_examples.items()])
  path = pathlib.Path(workdir) / 'data.html'
  html.write(
    path,
    title=f'Data: {path.parent.resolve().name}',
    subtitle=f'Model input of {captions.describe_run(config, spec)}.',
    sections=[
      Section('Dataset', [f'{spec.name}; number of classes: {spec.num_classes}.'], tables=[sizes]),
      _counts_section(*samples.class_counts(config.data, spec)),
      *training_sections(train, spec, config, count),
      *(
        _evaluation_section(
          samples.evaluation_images(config.data, spec, split, count), name, split, spec
        )
        for name, split in config.data.eval_splits.items()
      ),
      config_section(config),
    ],
  )
  print(f'Open {path} to see the training and evaluation images')


def training_sections(
  train: Examples,
  spec: DatasetSpec,
  config: ml_collections.ConfigDict,
  count: int,
  results: Mapping[str, Metrics] | None = None,
) -> list[Section]:
  """Sections on the training images: a grid, the positions of the points, for COCO each class.

  Args:
    train: training examples as the model gets them.
    spec: of the dataset.
    config: of the run.
    count: images in the grid.
    results: {split: metrics} of a run, for the average precision of each class.
  """
  sections = [_images_section(train, spec, config, count), _positions_section(train, spec)]
  return sections + (_class_sections(train, spec, results or {}) if spec.point_per_class else [])


def _images_section(
  train: Examples, spec: DatasetSpec, config: ml_collections.ConfigDict, count: int
) -> Section:
  text = [
    'The first images of the first epoch exactly as the model sees them: cropped, resized and '
    f'flipped. Green rings are {_point_name(spec)}s, transformed with the image.'
  ]
  if config.data.control != 'none':
    text.append(
      f'The points are those of the control {config.data.control!r}, not the recorded points of '
      'these images.'
    )
  if train.filtered:
    text.append(f'{train.filtered[0].upper()}{train.filtered[1:]}.')
  if train.trace is not None and np.isfinite(train.trace).any():
    text.append(
      f'Lines are mouse traces{"" if spec.multi_label else " up to the click"}, sampled evenly in '
      'time, from dark (first) to light (last). Parts outside the crop are not drawn.'
    )
  images = []
  for i in range(min(count, len(train.image))):
    trace = None if train.trace is None else train.trace[i]
    absent = _describe_absent(train, i, spec, config)
    images.append(
      _training_image(train.image[i], train.label[i], train.point[i], trace, spec, absent)
    )
  return Section('Training images after augmentation', text, images=images)


def _describe_absent(
  examples: Examples, i: int, spec: DatasetSpec, config: ml_collections.ConfigDict | None = None
) -> str:
  """Why an example has no point: it was cropped away, or there is none."""
  name = _point_name(spec)
  if examples.recorded[i].any():
    return f'{name} cropped away'
  left_out = config is not None and (examples.filtered or config.data.byproduct_fraction < 1)
  return f'no {name} to train on' if left_out else f'no {name} recorded'


def _counts_section(counts: Mapping[str, int], images: int) -> Section:
  """Images of each class, the most frequent first."""
  ranked = sorted(counts.items(), key=lambda item: -item[1])
  rows = [[name, f'{count:,}'] for name, count in ranked]
  few = len(rows) <= 20
  table = Table(['class', 'images'], rows, '' if few else f'{len(rows):,} classes')
  return Section(
    'Images of each class',
    [f'Counted over the first {images:,} images of the training split, in file order.'],
    tables=[table] * few,
    collapsed=[table] * (not few),
  )


def _positions_section(train: Examples, spec: DatasetSpec) -> Section:
  known = np.isfinite(train.point).all(-1)
  name, points = _point_name(spec), train.point[known]
  text = (
    f'{known.any(-1).mean():.0%} of the first {len(known)} training images have at least one '
    f'{name} in the crop.'
  )
  title = f'Positions of {len(points)} {name}s in the crop'
  images = [charts.positions(title, points)] if len(points) else []
  return Section(f'{name.capitalize()} positions', [text], images=images, layout='charts')


def _point_name(spec: DatasetSpec) -> str:
  if spec.point_per_class:
    return 'icon'
  return 'trace point' if spec.multi_label else 'click'


def first_images(batch: Batch, spec: DatasetSpec, count: int) -> list[html.Image]:
  """The first `count` images of a training batch (see data.pipeline), with their points."""
  points = np.where(batch['point_mask'][..., None] > 0, batch['point'], np.nan)
  absent = f'no {_point_name(spec)} in the crop'
  return [
    _training_image(image, label, point, point if spec.is_trace else None, spec, absent)
    for image, label, point in zip(
      batch['image'][:count], batch['label'][:count], points[:count], strict=True
    )
  ]


def _training_image(
  image: np.ndarray,
  label: np.ndarray,
  point: np.ndarray,
  trace: np.ndarray | None,
  spec: DatasetSpec,
  absent: str,
) -> html.Image:
  """`absent`: caption where there is no point."""
  marks = captions.marks(point, spec)
  if trace is not None and np.isnan(trace).all():
    trace = None
  classes = captions.format_classes(spec, label)
  alt = f'Training image: {classes}, {captions.describe_marks(marks)}'
  return html.image(
    plots.image(image, marks, trace),
    alt if trace is None else f'{alt}, with its mouse trace',
    classes if marks else f'{classes}; {absent}',
  )


def _class_sections(
  train: Examples, spec: DatasetSpec, results: Mapping[str, Metrics]
) -> list[Section]:
  """COCO: icons and average precision per class, and an example of each class."""
  known = np.isfinite(train.point).all(-1)
  counts = known.sum(0)
  order = [c for c in np.argsort(-counts, kind='stable') if counts[c]]
  if not order:
    return [Section('Icons per class', ['None of the first training images has an icon.'])]
  bars = [charts.bars('Icons per class', {spec.class_names[c]: int(counts[c]) for c in order}, ',')]
  for split, metrics in results.items():
    if precision := metrics.get('ap_per_class'):
      ranked = dict(sorted(precision.items(), key=lambda item: -item[1]))
      bars.append(charts.bars(f'Average precision per class on {split}', ranked))
  images = []
  for c in order:
    i = int(known[:, c].argmax())
    x, y = train.point[i, c].tolist()
    mark = plots.Mark(x, y, label=spec.class_names[c])
    images.append(
      html.image(
        plots.image(train.image[i], [mark]),
        f'Training image with {captions.describe_marks([mark])}',
        f'{spec.class_names[c]}: {counts[c]} {"icon" if counts[c] == 1 else "icons"}',
      )
    )
  text = f'Icons in the crop, over the first {len(train.image)} training images.'
  return [
    Section('Icons per class', [text], images=bars, layout='charts'),
    Section(
      'Example icon of each class', ['The first training image with the icon.'], images=images
    ),
  ]


def _evaluation_section(batch: Examples, name: str, split: str, spec: DatasetSpec) -> Section:
  marks = [captions.marks(point, spec) for point in batch.point]
  classes = [captions.format_classes(spec, label) for label in batch.label]
  return Section(
    f'Evaluation images: {name}',
    [
      f'The first images of {split} in order, resized and centre-cropped. '
      f'{sum(map(bool, marks))} of these {len(marks)} have a point.'
    ],
    images=[
      html.image(
        plots.image(image, points),
        f'Evaluation image: {caption}, {captions.describe_marks(points)}',
        caption if points else f'{caption}; {_describe_absent(batch, i, spec)}',
      )
      for i, (image, points, caption) in enumerate(zip(batch.image, marks, classes, strict=True))
    ],
  )


def config_section(
  config: ml_collections.ConfigDict, summary: Mapping[str, Any] | None = None
) -> Section:
  """All config keys and, given the summary of a run, its machine and package versions."""
  rows = [[key, str(value)] for key, value in flatten(config.to_dict()).items()]
  text = ['All config keys.']
  if summary:
    versions = ', '.join(f'{name} {version}' for name, version in summary['versions'].items())
    text.append(f'Run with {versions} on {summary["machine"]}.')
  return Section(
    'Configuration', text, collapsed=[Table(['key', 'value'], rows, f'{len(rows)} keys')]
  )
