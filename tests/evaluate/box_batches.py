"""Batches of boxes for the tests of localisation, and the figures of a whole evaluation."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from luab_jax.evaluate import localization


def summary_of(batches, size, *, multi_label, threads=2):
  """Metrics of the batches [(outputs, boxes)], in views of `size` x `size` pixels."""
  with ThreadPoolExecutor(threads) as pool:
    places = localization.Localization(pool, size, multi_label=multi_label)
    for outputs, boxes in batches:
      places.add(outputs, boxes)
    return places.metrics()


def boxes_of(rows, label=None, overflow=0):
  """Box columns of a batch.

  Args:
    rows: for each image a list of boxes (x0, y0, x1, y1) in fractions of the view.
    label: for each image a list of one class per box; 0 everywhere by default.
    overflow: how many boxes of every image did not fit.
  """
  size = max(max(map(len, rows)), 1)
  box, mask = np.zeros((len(rows), size, 4), np.float32), np.zeros((len(rows), size), np.float32)
  labels = np.zeros((len(rows), size), np.int32)
  for i, row in enumerate(rows):
    mask[i, : len(row)] = 1
    if row:
      box[i, : len(row)] = row
      labels[i, : len(row)] = 0 if label is None else label[i]
  return {
    'box': box,
    'box_mask': mask,
    'box_label': labels,
    'box_overflow': np.full(len(rows), overflow),
    'example_mask': np.ones(len(rows), np.float32),
  }
