"""Localisation metrics against a literal implementation of their definition, on random maps."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from luab_jax.evaluate import localization
from tests.evaluate.box_batches import boxes_of, summary_of

EIGHT = np.ones((3, 3))  # 8-connectivity

values = st.integers(1, 9).flatmap(
  lambda n: arrays.arrays(
    np.float32,
    (n, n),
    elements=st.one_of(
      st.sampled_from([0.0, 60.0, 60.5, 61.0, 200.0, 255.0]), st.floats(0, 255, width=32)
    ),
  )
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_component_boxes_are_those_of_labelling_at_every_threshold(levels):
  found = localization.component_boxes(levels)
  for k in range(1, 256):
    labelled, _ = ndimage.label(levels >= k, EIGHT)
    expected = sorted((x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labelled))
    assert sorted(tuple(box.tolist()) for box in found[:, k - 1] if box[2] > box[0]) == expected


def naive_figures(grids, rows, right, size):
  """A literal implementation of the definition: {metric: value} of single-label maps."""
  best = np.zeros((len(grids), 255))
  pointing = []
  for i, (grid, boxes) in enumerate(zip(grids, rows, strict=True)):
    large = localization.enlarge(grid, size)
    for k in range(1, 256):
      for y, x in ndimage.find_objects(ndimage.label(large >= k, EIGHT)[0]):
        a = np.array([x.start, y.start, x.stop, y.stop]) / size
        for b in boxes:
          sides = [min(a[j + 2], b[j + 2]) - max(a[j], b[j]) for j in (0, 1)]
          common = max(sides[0], 0) * max(sides[1], 0)
          areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
          best[i, k - 1] = max(best[i, k - 1], common / (sum(areas) - common))
    highest = [
      ((x + 0.5) / grid.shape[1], (y + 0.5) / grid.shape[0])
      for y, x in np.argwhere(grid == grid.max())
    ]
    pointing.append(
      all(any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in boxes) for x, y in highest)
    )
  accuracy = {d: (best >= d).mean(0) for d in (0.3, 0.5, 0.7)}
  chosen = accuracy[0.5].argmax()
  return {
    'maxboxacc_v2_cam': np.mean([a.max() for a in accuracy.values()]),
    'top1_loc_cam': np.mean((best[:, chosen] >= 0.5) & right),
    'pointing_cam': np.mean(pointing),
  }


# Corners in steps of 1/16 are exact in float32, so both implementations break ties alike.
corners = st.tuples(*[st.integers(0, 7)] * 2, *[st.integers(1, 8)] * 2).map(
  lambda c: (c[0] / 16, c[1] / 16, (c[0] + c[2]) / 16, (c[1] + c[3]) / 16)
)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(2, 4))
def test_metrics_follow_the_definition(data, count, cells):
  element = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
  grids = data.draw(arrays.arrays(np.float32, (count, cells, cells), elements=element))
  rows = [data.draw(st.lists(corners, min_size=1, max_size=3)) for _ in range(count)]
  right = data.draw(arrays.arrays(bool, count))
  batches = [  # of one image each: sums must not depend on how images are batched
    (
      {'maps': {'cam': grids[i : i + 1, ..., None]}, 'correct': right[i : i + 1]},
      boxes_of(rows[i : i + 1]),
    )
    for i in range(count)
  ]
  found = summary_of(batches, 8, multi_label=False)
  for name, value in naive_figures(grids, rows, right, 8).items():
    assert found[name] == pytest.approx(value), name
