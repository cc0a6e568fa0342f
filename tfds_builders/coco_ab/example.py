"""The features of coco_ab, and how an image and what belongs to it become an example."""

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab.join import Instance, Joined, Listed

_DOC = tfds.features.Documentation
_NO_RECORD = coco_ab.CocoRecord(page_id=0)


def features(
  class_names: tuple[str, ...] | None = coco_ab.CLASS_NAMES,
) -> tfds.features.FeaturesDict:
  """Returns the features of an example. Points are x right, y down; boxes are in TFDS's order.

  Args:
    class_names: the classes; None where they are set later, once for all labels.
  """
  label = tfds.features.ClassLabel(names=class_names)
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(
        doc='The file as released, byte for byte; in …_short288 reduced.'
      ),
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
            doc='[ymin, xmin, ymax, xmax] as fractions of the image, clipped to it.'
          ),
          'area': _column(np.float32, 'Pixels of the segmentation, before a reduction.'),
          'is_crowd': _column(np.bool_, 'Whether the box holds a group.'),
          'label': label,
        },
        doc=_DOC(desc="COCO's instances, in the order of their ids."),
      ),
      'has_record': _column(np.bool_, 'Whether COCO-AB has a readable record of the image.'),
      **_byproduct_features(label),
      'record': _record_features(),
    }
  )


def _byproduct_features(label: tfds.features.ClassLabel) -> dict[str, tfds.features.Sequence]:
  """Returns the features of what the worker did, by name."""
  time = _column(np.int64, 'Milliseconds since the page was opened.')
  x = _column(np.float32, 'Right, as a fraction of the shown width; nominally in [0, 1].')
  y = _column(np.float32, 'Down, as a fraction of the shown height; nominally in [0, 1].')
  return {
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
  }


def _record_features() -> tfds.features.FeaturesDict:
  return tfds.features.FeaturesDict(
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
  )


def _column(dtype: type, text: str) -> tfds.features.Scalar:
  return tfds.features.Scalar(dtype, doc=text)


def _point(text: str, side: str) -> tfds.features.Scalar:
  return _column(np.float32, f'{text}, as a fraction of the shown {side}; NaN: absent.')


def build_example(
  image: Joined, size: tuple[int, int], class_index: dict[str, int] = coco_ab.CLASS_INDEX
) -> dict:
  """Returns an example of `features()`.

  Args:
    image: the image file and what belongs to it; boxes are relative to the size it is listed with.
    size: (height, width) of the decoded image in pixels.
    class_index: the classes, name -> index.
  """
  record = image.record or _NO_RECORD
  return {
    'image': image.data,
    'file_name': image.file_name,
    'image_id': image.listed.image_id,
    'image_size': {'height': size[0], 'width': size[1]},
    'labels': sorted({instance.label for instance in image.instances}),
    'objects': {
      'id': [instance.id for instance in image.instances],
      'bbox': [_relative_box(instance, image.listed) for instance in image.instances],
      'area': [instance.area for instance in image.instances],
      'is_crowd': [instance.is_crowd for instance in image.instances],
      'label': [instance.label for instance in image.instances],
    },
    'has_record': image.record is not None,
    **_encode_byproducts(record, class_index),
    'record': {
      name: getattr(record, name)
      for name in (
        'shown_width',
        'shown_height',
        'original_width',
        'original_height',
        'time_spent_ms',
        'hit_id',
        'worker_id',
        'page_id',
      )
    },
  }


def _encode_byproducts(record: coco_ab.CocoRecord, class_index: dict[str, int]) -> dict[str, dict]:
  """Returns the values of `_byproduct_features`."""
  icons, _ = coco_ab.replay_icons(record.actions, class_index)
  actions, categories = record.actions, record.categories
  return {
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
  }


def _relative_box(instance: Instance, listed: Listed) -> tfds.features.BBox:
  """Returns the box as fractions, clipped: rounding puts some of COCO's a hair outside."""

  def clip(value):
    return min(max(value, 0.0), 1.0)

  return tfds.features.BBox(
    ymin=clip(instance.y / listed.height),
    xmin=clip(instance.x / listed.width),
    ymax=clip((instance.y + instance.height) / listed.height),
    xmax=clip((instance.x + instance.width) / listed.width),
  )
