"""What a COCO-AB worker did on an image, as features."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab

_DOC = tfds.features.Documentation
_NO_RECORD = coco_ab.CocoRecord(page_id=0)
_REST = (
  'shown_width',
  'shown_height',
  'original_width',
  'original_height',
  'time_spent_ms',
  'hit_id',
  'worker_id',
  'page_id',
)


def features(label: tfds.features.ClassLabel) -> dict[str, tfds.features.FeatureConnector]:
  """Returns the features of what a worker did, by name."""
  time = column(np.int64, 'Milliseconds since the page was opened.')
  x = column(np.float32, 'Right, as a fraction of the shown width; nominally in [0, 1].')
  y = column(np.float32, 'Down, as a fraction of the shown height; nominally in [0, 1].')
  return {
    'has_record': column(np.bool_, 'Whether COCO-AB has a readable record of the image.'),
    'icons': tfds.features.Sequence(
      {'label': label, 'x': x, 'y': y},
      doc=_DOC(
        desc='Icons left after replaying the actions: at most one per class, in class order.'
      ),
    ),
    'actions': tfds.features.Sequence(
      {
        'action': tfds.features.ClassLabel(names=coco_ab.ACTION_NAMES),
        'icon': tfds.features.Text(doc='Name as recorded; normally one of the 80 classes.'),
        'from_x': _point('Start point, right', 'width'),
        'from_y': _point('Start point, down', 'height'),
        'to_x': _point('End point, right', 'width'),
        'to_y': _point('End point, down', 'height'),
        'time_ms': time,
      },
      doc=_DOC(desc='Every icon placed, moved or removed, in recorded order.'),
    ),
    'categories': tfds.features.Sequence(
      {
        'index': column(np.int32, 'Which of the eleven pages of icons.'),
        'name': tfds.features.Text(doc='Name of the page, such as Animal.'),
        'time_ms': time,
        'using_keyboard': column(np.bool_, 'Whether it was opened with the keyboard.'),
      },
      doc=_DOC(desc='Every page of icons opened, in recorded order.'),
    ),
    'trace': tfds.features.Sequence(
      {'x': x, 'y': y, 'time_ms': time},
      doc=_DOC(desc='Positions of the mouse over the image, in recorded order.'),
    ),
    'record': _record_features(),
  }


def _record_features() -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
    {
      'shown_width': column(np.int32, 'Pixels of the page; 0: not loaded.'),
      'shown_height': column(np.int32, 'Pixels of the page; 0: not loaded.'),
      'original_width': column(np.int32, 'Pixels of the file shown; 0: not loaded.'),
      'original_height': column(np.int32, 'Pixels of the file shown; 0: not loaded.'),
      'time_spent_ms': column(np.int64, 'Milliseconds spent on the page.'),
      'hit_id': tfds.features.Text(doc='Mechanical Turk HIT id.'),
      'worker_id': tfds.features.Text(doc='Anonymised worker id.'),
      'page_id': column(np.int32, 'Page within the HIT; -1: absent in the record.'),
    },
    doc='The rest of the record; zeros and empty strings if has_record is false.',
  )


def column(dtype: type, text: str) -> tfds.features.Scalar:
  """Returns a scalar feature with its description."""
  return tfds.features.Scalar(dtype, doc=text)


def _point(text: str, side: str) -> tfds.features.Scalar:
  return column(np.float32, f'{text}, as a fraction of the shown {side}; NaN: absent.')


def encode(record: coco_ab.CocoRecord | None, class_index: dict[str, int]) -> dict[str, Any]:
  """Returns the values of `features`.

  Args:
    record: the record of an image, or None.
    class_index: the classes, name -> index.
  """
  has_record, record = record is not None, record or _NO_RECORD
  icons, _ = coco_ab.replay_icons(record.actions, class_index)
  actions, categories = record.actions, record.categories
  return {
    'has_record': has_record,
    'icons': {
      'label': [class_index[name] for name in icons],
      'x': [x for x, _ in icons.values()],
      'y': [y for _, y in icons.values()],
    },
    'actions': {
      'action': actions.action,
      'icon': list(actions.icon),
      'from_x': actions.from_xy[:, 0].astype(np.float32),
      'from_y': actions.from_xy[:, 1].astype(np.float32),
      'to_x': actions.to_xy[:, 0].astype(np.float32),
      'to_y': actions.to_xy[:, 1].astype(np.float32),
      'time_ms': actions.time_ms,
    },
    'categories': {
      'index': categories.index,
      'name': list(categories.name),
      'time_ms': categories.time_ms,
      'using_keyboard': categories.using_keyboard,
    },
    'trace': {
      'x': record.trace_xy[:, 0].astype(np.float32),
      'y': record.trace_xy[:, 1].astype(np.float32),
      'time_ms': record.trace_time_ms,
    },
    'record': {name: getattr(record, name) for name in _REST},
  }
