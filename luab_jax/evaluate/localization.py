"""How well maps show where objects are: MaxBoxAccV2, top-1 localisation, pointing game.

After "Evaluating Weakly Supervised Object Localization Methods Right" (Choe et al. 2020,
arXiv:2001.07437) and its journal version (arXiv:2007.04178), which defines MaxBoxAccV2:

  * The view is that of the authors' code (github.com/clovaai/wsolevaluation): the whole image is
    squashed to the model's input, and no box is cut (`examples.whole_view`). All other figures of
    an evaluation are of the centre crop.
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

Everything is counted in integers, so that sums over threads, batches and hosts are exact. Images
without a true box do not count. Where an image has several labels (COCO), each class present
counts as an image of its own: that class's map against that class's boxes.

Cost, on the host, a map (one busy CPU core, as measured when this was written): 2 ms for 12 x 12
cells at 48 px, 8 ms for 7 x 7 and 18 ms for 14 x 14 at 224 px; labelling at each threshold took
133 ms at 224 px. That is done in threads while the devices compute what else there is to evaluate,
and before the last evaluation on the first `localization.max_images` images of a split alone.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import ndimage

from luab_jax import cores
from luab_jax.data.dataset import Batch
from luab_jax.evaluate.component_boxes import LEVELS, component_boxes
from luab_jax.runtime import hosts

IOUS = (0.3, 0.5, 0.7)


@contextlib.contextmanager
def thread_pool() -> Iterator[ThreadPoolExecutor]:
  """One thread for each core; what has not begun when an error ends the block is given up."""
  pool = ThreadPoolExecutor(cores(), 'localization')
  try:
    yield pool
  finally:
    pool.shutdown(cancel_futures=True)


class Localization:
  """Counts over a split, in the threads of a pool.

  Attributes:
    counts: {name: int64 array}, complete after `wait`.
  """

  def __init__(self, pool: ThreadPoolExecutor, image_size: int, *, multi_label: bool):
    """`image_size`: side of the view in pixels; `multi_label`: a map and boxes for each class."""
    self._pool = pool
    self._futures: list[Future[None]] = []
    self._lock = threading.Lock()
    self._size = image_size
    self._multi_label = multi_label
    self.counts: dict[str, np.ndarray] = {
      name: np.zeros((), np.int64) for name in ('images', 'without', 'targets', 'left_out')
    }

  def add(self, outputs: dict[str, Any], boxes: Batch) -> None:
    """Starts to count one batch.

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
        correct = not self._multi_label and bool(outputs['correct'][row])
        for kind, grids in outputs['maps'].items():
          grid = grids[row, :, :, c if self._multi_label else 0].copy()  # not the batch's maps
          self._futures.append(self._pool.submit(self._add_map, kind, grid, of_class, correct))

  def _add_map(self, kind: str, grid: np.ndarray, boxes: np.ndarray, correct: bool) -> None:
    hits = iou_by_level(enlarge(grid, self._size), boxes) >= np.array(IOUS)[:, None]
    pointing = points_inside(grid, boxes)
    with self._lock:
      self.counts[f'hits_{kind}'] += hits
      self.counts[f'correct_{kind}'] += hits[IOUS.index(0.5)] & correct
      self.counts[f'pointing_{kind}'] += pointing

  def wait(self, progress: Callable[[Iterable, int], Iterable] | None = None) -> None:
    """Waits until everything is counted; `progress` as in `evaluate.evaluate_split`."""
    for future in progress(self._futures, len(self._futures)) if progress else self._futures:
      future.result()

  def metrics(
    self, progress: Callable[[Iterable, int], Iterable] | None = None
  ) -> dict[str, float]:
    """`wait`, then `summarise` the counts of all hosts."""
    self.wait(progress)
    return summarise(hosts.sum_over_hosts(self.counts), multi_label=self._multi_label)


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
