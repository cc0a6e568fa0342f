"""Bounding boxes of the connected components of a map at all thresholds at once."""

import numpy as np
from scipy import ndimage

LEVELS = 255
_EIGHT = np.ones((3, 3), int)


def component_boxes(values: np.ndarray) -> np.ndarray:
  """Boxes of the connected components of `values >= k` for all k = 1 ... 255 at once (ours).

  Each pixel belongs to the peak where steepest ascent from it ends. The ascent never goes down, so
  at any threshold a pixel is connected to its peak, and a component is a set of peaks: those joined
  by neighbouring pixels that are both at or above the threshold. The boxes of a single peak at all
  thresholds follow from the maxima of its rows and columns; merging peaks from the highest pass
  down gives the boxes of the components.

  Args:
    values: f32[H,W], 0 ... 255.

  Returns:
    int64[P,255,4]: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive, for P peaks; at each threshold
    every component is in one of the P slots. Unused slots have x1 <= x0.
  """
  peaks = _peak_of_pixel(values)
  levels = np.floor(values).astype(np.uint8)
  boxes = _boxes_of_peaks(levels, peaks)
  leader = list(range(len(boxes)))

  def find(p: int) -> int:
    while leader[p] != p:
      leader[p] = p = leader[leader[p]]
    return p

  for first, second, height in _passes(levels, peaks):
    first, second = find(first - 1), find(second - 1)
    if first != second:
      leader[second] = first
      ours, other = boxes[first, :height], boxes[second, :height]
      ours[:, :2] = np.minimum(ours[:, :2], other[:, :2])
      ours[:, 2:] = np.maximum(ours[:, 2:], other[:, 2:])
      boxes[second, :height] = 0
  return boxes


def _peak_of_pixel(values: np.ndarray) -> np.ndarray:
  """i32[H,W], 1 ... P: the plateau without a higher neighbour where steepest ascent ends."""
  height, width = values.shape
  padded = np.pad(values, 1)
  index = np.pad(np.arange(height * width).reshape(height, width), 1)
  # The pixel itself comes first, so that argmax prefers it to neighbours of the same height.
  shifts = sorted(np.ndindex(3, 3), key=lambda shift: shift != (1, 1))
  views = [np.s_[y : y + height, x : x + width] for y, x in shifts]
  best = np.argmax([padded[view] for view in views], 0)
  parent = np.choose(best, [index[view] for view in views]).ravel()
  summit = parent == np.arange(height * width)
  while not summit[parent].all():
    parent = parent[parent]
  plateaus, _ = ndimage.label(summit.reshape(height, width), _EIGHT)
  return plateaus.ravel()[parent].reshape(height, width)


def _boxes_of_peaks(levels: np.ndarray, peaks: np.ndarray) -> np.ndarray:
  """int64[P,255,4]: the box of each peak's pixels at or above each threshold; (W,H,0,0) if none."""
  height, width = levels.shape
  count = int(peaks.max())

  def highest(line: np.ndarray, length: int) -> np.ndarray:
    """int64[P,length]: the maximum of a peak's pixels in each row or column."""
    result = np.zeros(count * length, np.int64)
    np.maximum.at(result, ((peaks - 1) * length + line).ravel(), levels.ravel().astype(np.int64))
    return result.reshape(count, length)

  def lines_below(lines: np.ndarray) -> np.ndarray:
    """int64[P,255]: how many of int64[P,n] come before the first that reaches each threshold."""
    so_far = np.maximum.accumulate(lines, 1) + (LEVELS + 1) * np.arange(count)[:, None]
    numbers = np.bincount(so_far.ravel(), minlength=count * (LEVELS + 1))
    return numbers.reshape(count, -1).cumsum(1)[:, :LEVELS]

  rows, columns = highest(np.arange(height)[:, None], height), highest(np.arange(width), width)
  return np.stack(
    [
      lines_below(columns),
      lines_below(rows),
      width - lines_below(columns[:, ::-1]),
      height - lines_below(rows[:, ::-1]),
    ],
    -1,
  )


def _passes(levels: np.ndarray, peaks: np.ndarray) -> list[tuple[int, int, int]]:
  """[(peak, peak, height of the highest pass between them)], from the highest down."""
  pairs, heights = [], []
  for here, there in (
    (np.s_[:, :-1], np.s_[:, 1:]),
    (np.s_[:-1], np.s_[1:]),
    (np.s_[:-1, :-1], np.s_[1:, 1:]),
    (np.s_[:-1, 1:], np.s_[1:, :-1]),
  ):
    left, right = peaks[here], peaks[there]
    border = left != right
    pairs.append(np.stack([left[border], right[border]], -1))
    heights.append(np.minimum(levels[here][border], levels[there][border]))
  height = np.concatenate(heights).astype(np.int64)
  order = np.argsort(-height, kind='stable')
  low, high = np.sort(np.concatenate(pairs), 1)[order].T.astype(np.int64)
  # np.unique keeps the first of each pair, which is its highest.
  _, first = np.unique(low * (peaks.max() + 1) + high, return_index=True)
  return [(int(low[i]), int(high[i]), int(height[order[i]])) for i in np.sort(first)]
