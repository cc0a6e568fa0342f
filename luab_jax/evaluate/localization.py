"""How well maps show where objects are: MaxBoxAccV2, top-1 localisation, pointing game.

After "Evaluating Weakly Supervised Object Localization Methods Right" (Choe et al. 2020,
arXiv:2001.07437) and its journal version (arXiv:2007.04178), which defines MaxBoxAccV2:

  * A map is enlarged to the model's input, scaled to 0 ... 1 by its own extremes and cut at a
    threshold t. Every connected component (8 neighbours) of what is left gives a box; the best
    IoU of any of them with any true box is the image's IoU at t.
  * BoxAcc(t, d) = fraction of images whose IoU at t is at least d; MaxBoxAcc(d) = its maximum over
    t, one t for all images; MaxBoxAccV2 = the mean of MaxBoxAcc at d = 0.3, 0.5 and 0.7.
  * Thresholds are k / 255, k = 1 ... 255, of maps rounded down to 8 bits (as in the authors' code;
    0 would make every image a box). A map that is the same everywhere has no component at all.
  * Top-1 localisation: the predicted class is correct and the IoU at least 0.5 at the threshold
    that MaxBoxAcc(0.5) chose (the lowest of several).
  * Pointing game (Zhang et al. 2018, without their margin of 15 px): the centre of the grid cell
    with the highest value lies in a true box, borders included. If several cells tie, all of them
    must: a uniform map hits nothing, wherever the boxes are.

Choices of ours: maps are enlarged bilinearly (the authors: bicubic), so that no value lies outside
the grid's; boxes end after their last pixel (x1 = (last + 1) / size, in fractions of the view); a
hole in a component is no component.

Everything is counted in integers, so that sums over batches and hosts are exact. Images without a
true box in the view do not count. Where an image has several labels (COCO), each class present
counts as an image of its own: that class's map against that class's boxes.

Cost, on the host, a map (one busy CPU core, as measured when this was written): 2 ms for 12 x 12
cells at 48 px, 8 ms for 7 x 7 and 18 ms for 14 x 14 at 224 px; labelling at each threshold took
133 ms at 224 px. The quickstart evaluates about 190 images per CPU-second with boxes and both maps,
and about 800 without boxes.
"""

import functools
from typing import Any

import numpy as np
from scipy import ndimage

from luab_jax.data.dataset import Batch

LEVELS = 255
IOUS = (0.3, 0.5, 0.7)
_EIGHT = np.ones((3, 3), int)


class Localization:
  """Counts over a split; `counts` may be added up over hosts before `summarise`.

  Attributes:
    counts: {name: int64 array}.
  """

  def __init__(self, image_size: int, *, multi_label: bool):
    """`image_size`: side of the view in pixels; `multi_label`: a map and boxes for each class."""
    self._size = image_size
    self._multi_label = multi_label
    self.counts: dict[str, np.ndarray] = {
      name: np.zeros((), np.int64) for name in ('images', 'without', 'targets', 'left_out')
    }

  def add(self, outputs: dict[str, Any], boxes: Batch) -> None:
    """Counts one batch.

    Args:
      outputs: maps {kind: f32[B,h,w,1]}, with `multi_label` f32[B,h,w,C]; without it also
        correct bool[B], whether the predicted class is the label. Of a batch without boxes only
        the kinds count: all hosts must have the same names to add up.
      boxes: box f32[B,M,4], box_mask f32[B,M], box_label i32[B,M], box_overflow i32[B] and
        example_mask f32[B], see `pipeline`.
    """
    counts = self.counts
    for kind in outputs['maps']:
      for name, shape in (('hits', (len(IOUS), LEVELS)), ('correct', LEVELS), ('pointing', ())):
        counts.setdefault(f'{name}_{kind}', np.zeros(shape, np.int64))
    for row in np.flatnonzero(boxes['example_mask']):
      mask = boxes['box_mask'][row] > 0
      box, label = boxes['box'][row][mask], boxes['box_label'][row][mask]
      counts['left_out'] += boxes['box_overflow'][row]
      counts['images' if len(box) else 'without'] += 1
      for c in np.unique(label):
        counts['targets'] += 1
        of_class = box[label == c] if self._multi_label else box
        correct = not self._multi_label and outputs['correct'][row]
        for kind, grids in outputs['maps'].items():
          self._add_map(kind, grids[row, :, :, c if self._multi_label else 0], of_class, correct)

  def _add_map(self, kind: str, grid: np.ndarray, boxes: np.ndarray, correct: bool) -> None:
    hits = iou_by_level(enlarge(grid, self._size), boxes) >= np.array(IOUS)[:, None]
    self.counts[f'hits_{kind}'] += hits
    self.counts[f'correct_{kind}'] += hits[IOUS.index(0.5)] & correct
    self.counts[f'pointing_{kind}'] += points_inside(grid, boxes)


def summarise(counts: dict[str, np.ndarray], *, multi_label: bool) -> dict[str, float]:
  """The metrics of `Localization.counts` as a dict of floats and ints; {} without any box.

  Returns:
    images_with_boxes, images_without_boxes, boxes_left_out (beyond the limit of the pipeline),
    with `multi_label` box_targets (classes present, over all images), and for each kind of map
    maxboxacc_v2_KIND, pointing_KIND and, without `multi_label`, top1_loc_KIND.
  """
  if not counts['images']:
    return {}
  targets = int(counts['targets'])
  result: dict[str, float] = {
    'images_with_boxes': int(counts['images']),
    'images_without_boxes': int(counts['without']),
    'boxes_left_out': int(counts['left_out']),
  }
  if multi_label:
    result['box_targets'] = targets
  for kind in sorted(name.removeprefix('hits_') for name in counts if name.startswith('hits_')):
    hits = counts[f'hits_{kind}']
    result[f'maxboxacc_v2_{kind}'] = float(hits.max(1).sum()) / (len(IOUS) * targets)
    if not multi_label:
      chosen = hits[IOUS.index(0.5)].argmax()
      result[f'top1_loc_{kind}'] = float(counts[f'correct_{kind}'][chosen]) / targets
    result[f'pointing_{kind}'] = float(counts[f'pointing_{kind}']) / targets
  return result


@functools.cache
def _interpolation(cells: int, size: int) -> np.ndarray:
  """f64[size,cells]: linear interpolation between cell centres, constant beyond the outer ones."""
  return ndimage.zoom(np.eye(cells), (size / cells, 1), order=1, mode='nearest', grid_mode=True)


def enlarge(grid: np.ndarray, size: int) -> np.ndarray:
  """A map f32[h,w] as f32[size,size], its extremes at 0 and 255."""
  grid = np.asarray(grid, np.float64)
  if not np.isfinite(grid).all() or np.ptp(grid) == 0:
    # Neither NaN nor a map that is the same everywhere shows a place.
    return np.zeros((size, size), np.float32)
  rows, columns = (_interpolation(cells, size) for cells in grid.shape)
  large = rows @ grid @ columns.T
  low, high = large.min(), large.max()
  return ((large - low) / (high - low) * LEVELS).astype(np.float32)


def points_inside(grid: np.ndarray, boxes: np.ndarray) -> bool:
  """Whether the centres of all highest cells of a map f32[h,w] lie in some box f32[M,4]."""
  grid = np.asarray(grid)
  row, column = np.nonzero(grid == grid.max())  # none at all if a value is NaN
  point = np.stack([(column + 0.5) / grid.shape[1], (row + 0.5) / grid.shape[0]], -1)[:, None]
  inside = np.any(((point >= boxes[:, :2]) & (point <= boxes[:, 2:])).all(-1), axis=1)
  return len(inside) > 0 and bool(inside.all())


def iou_by_level(values: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """The best IoU of any component's box with any true box, at every threshold.

  Args:
    values: f32[H,W], 0 ... 255.
    boxes: f32[M,4], M > 0: (x0, y0, x1, y1) in fractions of the view.

  Returns:
    f64[255], for values >= 1 ... values >= 255; 0 where there is no component.
  """
  height, width = values.shape
  found = component_boxes(values) / np.array([width, height, width, height])
  area = np.prod(np.maximum(found[..., 2:] - found[..., :2], 0), -1)  # 0 for those that are not
  best = np.zeros(LEVELS)
  for box in np.asarray(boxes, np.float64):
    side = np.minimum(found[..., 2:], box[2:]) - np.maximum(found[..., :2], box[:2])
    common = np.prod(np.maximum(side, 0), -1)
    iou = common / (area + np.prod(box[2:] - box[:2]) - common)
    best = np.maximum(best, iou.max(0, initial=0))
  return best


def component_boxes(values: np.ndarray) -> np.ndarray:
  """Boxes of the connected components of `values >= k` for all k = 1 ... 255 at once (ours).

  Each pixel belongs to the peak that the steepest way up leads to. That way never goes down, so
  at a threshold a pixel is connected with its peak, and a component is a set of peaks: those which
  are joined by neighbouring pixels both at or above the threshold. The boxes of what belongs to one
  peak follow for all thresholds from the maxima of its rows and columns; merging peaks from the
  highest pass down gives those of the components.

  Args:
    values: f32[H,W], 0 ... 255.

  Returns:
    int64[P,255,4]: (x0, y0, x1, y1) in pixels, x1 and y1 after the last one; at each threshold
    every component once among the P slots. Unused slots have x1 <= x0.
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
  """i32[H,W], 1 ... P: the plateau without a higher neighbour that steepest ascent ends on."""
  height, width = values.shape
  padded = np.pad(values, 1)
  index = np.pad(np.arange(height * width).reshape(height, width), 1)
  # The pixel itself comes first: among equals argmax takes it, so only a higher one moves us.
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
    """int64[P,255]: how many of int64[P,n] come before the first one that reaches a threshold."""
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
