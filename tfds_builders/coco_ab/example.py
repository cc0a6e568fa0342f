"""The features of coco_ab, and how an image, its instances and its record become one example."""

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab.join import Instance, Listed

_DOC = tfds.features.Documentation
_NO_ACTIONS = coco_ab.Actions(
  np.zeros(0, np.int64), (), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64)
)
_NO_CATEGORIES = coco_ab.Categories(
  np.zeros(0, np.int32), (), np.zeros(0, np.int64), np.zeros(0, bool)
)
_NO_RECORD = coco_ab.CocoRecord(
  number=0,
  image_id=0,
  shown_width=0,
  shown_height=0,
  original_width=0,
  original_height=0,
  time_spent_ms=0,
  hit_id='',
  worker_id='',
  page_id=0,
  actions=_NO_ACTIONS,
  categories=_NO_CATEGORIES,
  trace_xy=np.zeros((0, 2)),
  trace_time_ms=np.zeros(0, np.int64),
)


def features(
  class_names: tuple[str, ...] | None = coco_ab.CLASS_NAMES,
) -> tfds.features.FeaturesDict:
  """Returns the features of one example. Points are x right, y down; boxes are TFDS's own order.

  Args:
    class_names: the classes; None where they are set later, once for all labels.
  """
  label = tfds.features.ClassLabel(names=class_names)
  time = _column(np.int64, 'Milliseconds since the page was opened.')
  x = _column(np.float32, 'Right, as a fraction of the shown width; nominally in [0, 1].')
  y = _column(np.float32, 'Down, as a fraction of the shown height; nominally in [0, 1].')
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(doc='The file as released, byte for byte.'),
      'file_name': tfds.features.Text(doc='Such as COCO_train2014_000000000009.jpg.'),
      'image_id': _column(np.int64, "COCO's image id."),
      'image_size': tfds.features.FeaturesDict(
        {
          'height': _column(np.int32, 'Pixels of the decoded image.'),
          'width': _column(np.int32, 'Pixels of the decoded image.'),
        },
        doc='Size of the image.',
      ),
      'labels': tfds.features.Sequence(
        label,
        doc=_DOC(desc='Classes with at least one instance, crowds included; sorted, each once.'),
      ),
      'objects': tfds.features.Sequence(
        {
          'id': _column(np.int64, "COCO's annotation id."),
          'bbox': tfds.features.BBoxFeature(
            doc=('[ymin, xmin, ymax, xmax] as fractions of the image, clipped to it.')
          ),
          'area': _column(np.float32, 'Pixels of the segmentation.'),
          'is_crowd': _column(np.bool_, 'Whether the box holds a group.'),
          'label': label,
        },
        doc=_DOC(desc="COCO's instances, in the order of their ids."),
      ),
      'has_record': _column(np.bool_, 'Whether COCO-AB has a readable record of the image.'),
      'icons': tfds.features.Sequence(
        {'label': label, 'x': x, 'y': y},
        doc=_DOC(
          desc='What is left after replaying the actions: at most one icon a class, by class.'
        ),
      ),
      'actions': tfds.features.Sequence(
        {
          'action': tfds.features.ClassLabel(names=coco_ab.ACTION_NAMES),
          'icon': tfds.features.Text(doc='Name as recorded; normally one of the 80 classes.'),
          'from_x': _point('Where it was taken, right', 'width'),
          'from_y': _point('Where it was taken, down', 'height'),
          'to_x': _point('Where it was put, right', 'width'),
          'to_y': _point('Where it was put, down', 'height'),
          'time_ms': time,
        },
        doc=_DOC(desc='Every icon placed, moved or removed, in recorded order.'),
      ),
      'categories': tfds.features.Sequence(
        {
          'index': _column(np.int32, 'Which of the eleven pages of icons.'),
          'name': tfds.features.Text(doc='Name of the page, such as Animal.'),
          'time_ms': time,
          'using_keyboard': _column(np.bool_, 'Whether it was opened by key.'),
        },
        doc=_DOC(desc='Every page of icons opened, in recorded order.'),
      ),
      'trace': tfds.features.Sequence(
        {'x': x, 'y': y, 'time_ms': time},
        doc=_DOC(desc='Positions of the mouse over the image, in recorded order.'),
      ),
      'record': tfds.features.FeaturesDict(
        {
          'shown_width': _column(np.int32, 'Pixels of the page; 0: not loaded.'),
          'shown_height': _column(np.int32, 'Pixels of the page; 0: not loaded.'),
          'original_width': _column(np.int32, 'Pixels of the file shown; 0: not loaded.'),
          'original_height': _column(np.int32, 'Pixels of the file shown; 0: not loaded.'),
          'time_spent_ms': _column(np.int64, 'Milliseconds spent on the page.'),
          'hit_id': tfds.features.Text(doc='Mechanical Turk HIT.'),
          'worker_id': tfds.features.Text(doc='Anonymised worker.'),
          'page_id': _column(np.int32, 'Page within the HIT; -1: absent in the record.'),
        },
        doc='The rest of the record; zeros and empty texts if has_record is false.',
      ),
    }
  )


def _column(dtype, text: str) -> tfds.features.Scalar:
  return tfds.features.Scalar(dtype, doc=text)


def _point(text: str, side: str) -> tfds.features.Scalar:
  return _column(np.float32, f'{text}, as a fraction of the shown {side}; NaN: absent.')


def build_example(
  *,
  data: bytes,
  file_name: str,
  size: tuple[int, int],
  listed: Listed,
  instances: list[Instance],
  record: coco_ab.CocoRecord | None,
  class_index: dict[str, int] = coco_ab.CLASS_INDEX,
) -> dict:
  """Returns an example of `features()`.

  Args:
    data: the image file.
    file_name: its name without folder.
    size: (height, width) of the decoded image.
    listed: its entry in the instances file; boxes are relative to the size given there.
    instances: its annotations.
    record: its byproducts, if there are any.
    class_index: the classes, name -> index.
  """
  got = record or _NO_RECORD
  icons, _ = coco_ab.replay_icons(got.actions, class_index)
  return {
    'image': data,
    'file_name': file_name,
    'image_id': listed.image_id,
    'image_size': {'height': size[0], 'width': size[1]},
    'labels': sorted({instance.label for instance in instances}),
    'objects': {
      'id': [instance.id for instance in instances],
      'bbox': [_relative_box(instance, listed) for instance in instances],
      'area': [instance.area for instance in instances],
      'is_crowd': [instance.is_crowd for instance in instances],
      'label': [instance.label for instance in instances],
    },
    'has_record': record is not None,
    'icons': {
      'label': [class_index[name] for name in icons],
      'x': [x for x, _ in icons.values()],
      'y': [y for _, y in icons.values()],
    },
    'actions': {
      'action': got.actions.action,
      'icon': list(got.actions.icon),
      'from_x': got.actions.from_xy[:, 0].astype(np.float32),
      'from_y': got.actions.from_xy[:, 1].astype(np.float32),
      'to_x': got.actions.to_xy[:, 0].astype(np.float32),
      'to_y': got.actions.to_xy[:, 1].astype(np.float32),
      'time_ms': got.actions.time_ms,
    },
    'categories': {
      'index': got.categories.index,
      'name': list(got.categories.name),
      'time_ms': got.categories.time_ms,
      'using_keyboard': got.categories.using_keyboard,
    },
    'trace': {
      'x': got.trace_xy[:, 0].astype(np.float32),
      'y': got.trace_xy[:, 1].astype(np.float32),
      'time_ms': got.trace_time_ms,
    },
    'record': {
      'shown_width': got.shown_width,
      'shown_height': got.shown_height,
      'original_width': got.original_width,
      'original_height': got.original_height,
      'time_spent_ms': got.time_spent_ms,
      'hit_id': got.hit_id,
      'worker_id': got.worker_id,
      'page_id': got.page_id,
    },
  }


def _relative_box(instance: Instance, listed: Listed) -> tfds.features.BBox:
  """Pixels x, y, width, height to fractions; rounding can put COCO's a hair outside the image."""

  def clip(value):
    return min(max(value, 0.0), 1.0)

  return tfds.features.BBox(
    ymin=clip(instance.y / listed.height),
    xmin=clip(instance.x / listed.width),
    ymax=clip((instance.y + instance.height) / listed.height),
    xmax=clip((instance.x + instance.width) / listed.width),
  )
