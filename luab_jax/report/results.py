"""Sections of report.html on the metrics of the final evaluation, in words and by class."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from luab_jax.evaluate.metrics import learned_no_place
from luab_jax.evaluate.outcomes import Columns
from luab_jax.evaluate.robustness import Metrics
from luab_jax.report.html import Section, Table

_OPEN_CLASSES = 20  # a longer table of classes opens on a click
_MAPS = {
  'attention': 'attention map',
  'log_attention': 'logarithm of the attention map',
  'cam': 'class activation map (CAM)',
}
# {heading: {metric: (name, meaning)}}, in the order of the tables and rows.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
  'Classification': {
    'top1': ('Top-1 accuracy', 'images whose top class is correct'),
    'top5': ('Top-5 accuracy', 'images whose correct class is among the top five'),
    'mAP': ('Mean average precision (mAP)', 'mean over the classes'),
    'mAP_small': ('mAP, small objects', 'largest object of the class below 32 × 32 px'),
    'mAP_medium': ('mAP, medium objects', 'largest object of the class up to 96 × 96 px'),
    'mAP_large': ('mAP, large objects', 'largest object of the class above 96 × 96 px'),
    'mAP_with_icon': ('mAP, classes with an icon', 'only those marked by the annotator'),
    'mAP_without_icon': ('mAP, classes without an icon', 'only those missed by the annotator'),
  },
  'Click position': {
    'click_error': (
      'Click error',
      'mean distance between predicted and recorded points, relative to the image side',
    ),
    'click_error_px': ('Click error in pixels', 'the same in pixels of the model input'),
    'click_error_centre': (
      'Click error of the centre',
      'of always predicting the centre: a baseline that the head has to beat',
    ),
    'click_error_mean': (
      'Click error of the mean point',
      'of always predicting the mean point of the training set: another baseline',
    ),
  },
  'Maps and ground-truth boxes': {
    f'{name}_{kind}': (f'{title}, {of}', meaning)
    for name, title, meaning in (
      ('maxboxacc_v2', 'MaxBoxAccV2', 'localisation by a box around the map'),
      ('top1_loc', 'Top-1 localisation', 'correct class, and a box with IoU 0.5 or more'),
      ('pointing', 'Pointing game', 'images where the map peaks on the object'),
      (
        'epg',
        'Energy pointing game',
        'share of the map inside the ground-truth boxes; also high for a map that has collapsed to '
        'one cell: read it with MaxBoxAccV2',
      ),
    )
    for kind, of in _MAPS.items()
  },
  "Maps and people's heat maps": {
    f'{name}_{kind}': (f'{title}, {of}', meaning)
    for name, title, meaning in (
      ('alignment', 'Alignment', 'rank correlation, relative to that between people'),
      ('spearman', 'Rank correlation', 'over the pixels of an image, averaged over images'),
    )
    for kind, of in {'saliency': 'saliency of the label', **_MAPS}.items()
  },
  'Losses': {
    'class_loss': ('Classification loss', 'cross-entropy'),
    'point_loss': ('Point loss', 'of the predicted points, unweighted'),
    'map_loss': ('Map loss', 'of the maps at the recorded points, unweighted'),
  },
  'Counts': {
    'examples': ('Images', ''),
    'points_used': ('Points recorded', 'share of the images or, with icons, image and class pairs'),
    'images_with_boxes': ('Images with a ground-truth box', 'localisation is measured on these'),
    'images_without_boxes': ('Images without a ground-truth box', 'not in localisation'),
    'boxes_left_out': ('Boxes left out', 'beyond the first 100 of an image'),
    'box_targets': ('Image and class pairs with a box', 'localisation is measured on these'),
    'classes_without_positives': ('Classes without an image', 'not in mAP'),
    **{
      f'positives_{group}': (f'Image and class pairs in mAP, {words}', '')
      for group, words in (
        ('small', 'small objects'),
        ('medium', 'medium objects'),
        ('large', 'large objects'),
        ('with_icon', 'classes with an icon'),
        ('without_icon', 'classes without an icon'),
      )
    },
  },
}


def tiles(results: Mapping[str, Metrics]) -> list[tuple[str, str]]:
  """(name, value) pairs of the metrics to see first."""
  names = {'top1': 'Top-1', 'mAP': 'mAP', 'click_error': 'Click error'}
  return [
    (f'{label}, {in_words(split)}', _format(key, metrics[key]))
    for split, metrics in results.items()
    for key, label in names.items()
    if key in metrics
  ]


def in_words(split: str) -> str:
  """The name of a split without underscores."""
  return split.replace('_', ' ')


def results_section(results: Mapping[str, Metrics], caveat: str) -> Section:
  """A table for each group of metrics.

  Args:
    results: {split: metrics}.
    caveat: a warning about them without its full stop, or ''.
  """
  tables, known = [], set()
  for title, names in GROUPS.items():
    rows = [_row(key, name, results) for key, (name, _) in names.items()]
    notes = [meaning for _, meaning in names.values()]
    kept = [i for i, row in enumerate(rows) if any(cell != '–' for cell in row[1:])]
    known |= set(names)
    if kept:
      head = ['', *map(in_words, results)]
      shown = [rows[i] for i in kept]
      tables.append(Table(head, shown, title, numbers=True, notes=[notes[i] for i in kept]))
  others = {
    key: value
    for metrics in results.values()
    for key, value in metrics.items()
    if key not in known and not isinstance(value, dict)
  }
  if others:
    rows = [_row(key, key, results) for key in sorted(others)]
    tables.append(Table(['', *map(in_words, results)], rows, 'Other', numbers=True))
  return Section(
    'Results',
    [
      'Every image of a split counts once. summary.json has the same metrics as fractions.',
      *(f'{in_words(s)}: {text}.' for s, m in results.items() if (text := learned_no_place(m))),
      *([f'{caveat[0].upper()}{caveat[1:]}.'] if caveat else []),
    ],
    tables=tables,
    collapsed=[
      Table(
        ['', 'value'], [[part, _format(key, v)] for part, v in value.items()], f'{split}: {key}'
      )
      for split, metrics in results.items()
      for key, value in metrics.items()
      if isinstance(value, dict)
    ],
  )


def _row(key: str, name: str, results: Mapping[str, Metrics]) -> list[str]:
  return [name, *(_format(key, metrics.get(key)) for metrics in results.values())]


def _format(key: str, value: Any) -> str:
  """A fraction as a percentage; losses, correlations, pixels and counts as they are."""
  if value is None:
    return '–'
  if isinstance(value, int | str):
    return f'{value:,}' if isinstance(value, int) else value
  if key.endswith('_px'):
    return f'{value:.2f} px'
  if key.endswith('loss') or key.startswith('spearman'):
    return f'{value:.4f}'
  return f'{100 * value:.2f} %'


def class_sections(outcomes: Columns, class_names: list[str]) -> list[Section]:
  """A table of the accuracy of each class, the lowest first; [] for multi-label data.

  Args:
    outcomes: of the final evaluation, with '<split>/label' and '<split>/prediction' i32[N].
    class_names: of all classes.
  """
  confusion = {
    name.removesuffix('/label'): _confusion(
      labels, outcomes[f'{name.removesuffix("/label")}/prediction'], len(class_names)
    )
    for name, labels in outcomes.items()
    if name.endswith('/label')
  }
  if not confusion:
    return []
  counts = np.sum(list(confusion.values()), axis=0)
  present = [int(c) for c in np.flatnonzero(counts.sum(1))]
  present.sort(key=lambda c: counts[c, c] / counts[c].sum())
  rows = [
    [class_names[c], *(_accuracy(matrix[c], c) for matrix in confusion.values())] for c in present
  ]
  few = len(rows) <= _OPEN_CLASSES
  table = Table(
    ['', *map(in_words, confusion)],
    rows,
    '' if few else f'{len(rows):,} classes',
    numbers=True,
    notes=[_mistaken(counts[c], c, class_names) for c in present],
  )
  return [
    Section(
      'Accuracy of each class',
      ['Share of the images of each class that are classified correctly; lowest first.'],
      tables=[table] * few,
      collapsed=[table] * (not few),
    )
  ]


def _confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
  """i64[C,C]: images by their label and their predicted class."""
  cells = labels.astype(np.int64) * num_classes + predictions
  return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def _accuracy(row: np.ndarray, c: int) -> str:
  return f'{100 * row[c] / row.sum():.2f} %' if row.any() else '–'


def _mistaken(row: np.ndarray, c: int, class_names: list[str]) -> str:
  """'mistaken for cat: 3 of 100 images': the most frequent mistake."""
  others = np.where(np.arange(len(row)) == c, 0, row)
  total = f'{row.sum():,} image{"" if row.sum() == 1 else "s"}'
  worst = int(others.argmax())
  return (
    f'mistaken for {class_names[worst]}: {others[worst]:,} of {total}' if others.any() else total
  )
