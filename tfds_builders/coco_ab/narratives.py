"""What the annotators of Localized Narratives said and did on an image, as features."""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import localized_narratives
from luab_jax.byproducts.localized_narratives import Narrative
from tfds_builders.coco_ab.records import column

_DOC = tfds.features.Documentation


def features(label: tfds.features.ClassLabel) -> dict[str, tfds.features.FeatureConnector]:
  """Returns the features of the narratives of an image, by name."""
  block = column(np.int32, 'Index of the narrative.')
  x = column(np.float32, 'Right, as a fraction of the width; may lie a little outside [0, 1].')
  y = column(np.float32, 'Down, as a fraction of the height; may lie a little outside [0, 1].')
  return {
    'has_record': column(np.bool_, 'Whether the image has a readable narrative.'),
    'icons': tfds.features.Sequence(
      {'label': label, 'x': x, 'y': y},
      doc=_DOC(
        desc='Where the mouse was while a class was named (ours), in the first narrative that '
        'names it, see localized_narratives.named_points; at most one per class, in class order.'
      ),
    ),
    'narratives': tfds.features.Sequence(
      {
        'annotator_id': column(np.int64, 'Annotator id.'),
        'caption': tfds.features.Text(doc='What was said, as transcribed by the annotator.'),
        'voice_recording': tfds.features.Text(doc='Path of the recording.'),
      },
      doc=_DOC(desc='One for each time the image was described, in the order of the files.'),
    ),
    'utterances': tfds.features.Sequence(
      {
        'text': tfds.features.Text(doc='One or a few words of the caption.'),
        'start_ms': column(np.int64, 'Milliseconds since the recording began.'),
        'end_ms': column(np.int64, 'Milliseconds since the recording began.'),
        'block': block,
      },
      doc=_DOC(desc='When the words were spoken, in the order of the caption.'),
    ),
    'trace': tfds.features.Sequence(
      {
        'x': x,
        'y': y,
        'time_ms': column(np.int64, 'Milliseconds since the recording began.'),
        'block': block,
        'segment': column(np.int32, 'Within its narrative; a new one at each re-entry.'),
      },
      doc=_DOC(desc='Positions of the mouse over the image, in recorded order.'),
    ),
  }


def encode(found: list[Narrative] | None, class_index: dict[str, int]) -> dict[str, Any]:
  """Returns the values of `features`.

  Args:
    found: the narratives of an image, or None.
    class_index: the classes, name -> index.
  """
  found = found or []
  icons = named_points(found, class_index)
  names = sorted(icons, key=class_index.__getitem__)
  said, moved = ([getattr(n, of) for n in found] for of in ('utterance', 'trace_time_ms'))
  trace_xy = np.concatenate([np.zeros((0, 2)), *(n.trace_xy for n in found)]).astype(np.float32)
  return {
    'has_record': bool(found),
    'icons': {
      'label': [class_index[name] for name in names],
      'x': [icons[name][0] for name in names],
      'y': [icons[name][1] for name in names],
    },
    'narratives': {
      name: [getattr(n, name) for n in found]
      for name in ('annotator_id', 'caption', 'voice_recording')
    },
    'utterances': {
      'text': [text for texts in said for text in texts],
      'start_ms': _joined([n.start_ms for n in found]),
      'end_ms': _joined([n.end_ms for n in found]),
      'block': _blocks(said),
    },
    'trace': {
      'x': trace_xy[:, 0],
      'y': trace_xy[:, 1],
      'time_ms': _joined(moved),
      'block': _blocks(moved),
      'segment': _joined([n.trace_segment for n in found]).astype(np.int32),
    },
  }


def named_points(
  found: list[Narrative], class_index: dict[str, int]
) -> dict[str, tuple[float, float]]:
  """Returns class -> (x right, y down), each from the first narrative that names it."""
  words = localized_narratives.vocabulary(tuple(class_index))
  icons: dict[str, tuple[float, float]] = {}
  for narrative in reversed(found):
    icons |= localized_narratives.named_points(narrative, words)
  return icons


def _joined(columns: list[np.ndarray]) -> np.ndarray:
  return np.concatenate([np.zeros(0, np.int64), *columns])


def _blocks(rows: list) -> np.ndarray:
  """Returns int32: the number of the narrative for each of its rows."""
  return np.repeat(np.arange(len(rows), dtype=np.int32), list(map(len, rows)))
