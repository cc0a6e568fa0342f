"""How well maps localise objects: MaxBoxAccV2, top-1 localisation, pointing games.

After "Evaluating Weakly Supervised Object Localization Methods Right" (Choe et al. 2020,
arXiv:2001.07437) and its journal version (arXiv:2007.04178), which defines MaxBoxAccV2:

  * The view is that of the authors' code (github.com/clovaai/wsolevaluation): the whole image is
    squashed to the model's input, and no box is cut (`examples.whole_view`). All other metrics of
    an evaluation use the centre crop.
  * A map is upsampled to the model's input, scaled to 0 ... 1 by its own minimum and maximum and
    thresholded at t. Every connected component (8 neighbours) at or above t gives a box; the best
    IoU of any of them with any ground-truth box is the image's IoU at t.
  * BoxAcc(t, d) = fraction of images whose IoU at t is at least d; MaxBoxAcc(d) = its maximum over
    t, one t for all images; MaxBoxAccV2 = the mean of MaxBoxAcc at d = 0.3, 0.5 and 0.7.
  * Thresholds are k / 255, k = 1 ... 255, of maps rounded down to 8 bits (as in the authors' code;
    at 0 the box would be the whole image). A constant map has no component at all.
  * Top-1 localisation: the predicted class is correct and the IoU is at least 0.5 at the threshold
    chosen by MaxBoxAcc(0.5) (the lowest if several are equally good).
  * Pointing game (Zhang et al. 2018, without their margin of 15 px): the centre of the grid cell
    with the highest value lies in a ground-truth box, borders included. If several cells tie, all
    of them must: a uniform map is a miss, unless all centres lie in boxes.
  * Energy pointing game, EPG (Wang et al. 2020, arXiv:1910.01279; of the positive part of a map as
    in Rao et al. 2023, arXiv:2303.11932): the share of a map's mass inside the union of the true
    boxes. The map is upsampled to the model's input, negative values are set to 0, and a pixel is
    inside if its centre is. A map without any positive value has EPG 0. Never read it alone: it
    rewards a map that has collapsed to one cell, whose boxes are poor.
  * log_attention is the logarithm of the attention map. A softmax has a steep peak: boxes of its
    logarithm fit the object better, without any training. Only its boxes are measured: its peak is
    the same, and it has no mass.

Our choices: maps are upsampled bilinearly (the authors: bicubically), so that no value lies outside
the range of the grid; boxes end after their last pixel (x1 = (last + 1) / size, in fractions of the
view); a hole in a component is not a component.

Everything is counted in integers (EPG in units of 2**-32), so that sums over batches and hosts are
exact. Images without a ground-truth box do not count. If an image has several labels (COCO), each
class present counts as an image of its own: that class's map against that class's boxes.

Cost per map on the host (one busy CPU core, as measured when this was written): 2 ms for 12 x 12
cells at 48 px, 8 ms for 7 x 7 and 18 ms for 14 x 14 at 224 px; labelling components at each
threshold took 133 ms at 224 px. It runs in threads while the devices do the rest of the evaluation
and, before the final evaluation, only on the first `localization.max_images` images of a split.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from luab_jax import cores
from luab_jax.data.dataset import Batch
from luab_jax.evaluate.component_boxes import LEVELS, component_boxes
from luab_jax.runtime import hosts

IOUS = (0.3, 0.5, 0.7)
BOXES_ALONE = 'log_attention'  # the kind of map for which only boxes are measured
_UNIT = 2.0**-32  # EPG is counted in multiples of it
_SMALLEST = np.finfo(np.float32).smallest_normal


@contextlib.contextmanager
def thread_pool() -> Iterator[ThreadPoolExecutor]:
  """A pool with one thread per core; tasks not started when the block ends are cancelled."""
  pool = ThreadPoolExecutor(cores(), 'localization')
  try:
    yield pool
  finally:
    pool.shutdown(cancel_futures=True)


class _Measured(NamedTuple):
  """One map of one image, or of one of its classes, compared with the ground-truth boxes."""

  image: int  # index among the host's images
  correct: bool  # whether the predicted class is the label
  hits: np.ndarray  # bool[IoUs, levels], packed along the levels
  pointing: bool
  energy: float


class Localization:
  """The localisation metrics of a split's maps, measured in the threads of a pool."""

  def __init__(
    self,
    pool: ThreadPoolExecutor,
    image_size: int,
    *,
    multi_label: bool,
    log_attention: bool = True,
  ):
    """`image_size`: side of the view in pixels; `multi_label`: a map and boxes for each class.

    `log_attention`: also measure the boxes of the attention map's logarithm, which take as long as
    those of another map.
    """
    self._log_attention = log_attention
    self._pool = pool
    self._size = image_size
    self._multi_label = multi_label
    self._measured: dict[str, list[Future[_Measured]]] = {}  # by kind of map
    self._counts = dict.fromkeys(('images', 'without', 'targets', 'left_out'), 0)
    self._chosen: dict[str, np.ndarray] = {}  # by kind of map: int[IoUs], the best level

  def add(self, outputs: dict[str, Any], boxes: Batch) -> None:
    """Starts measuring one batch.

    Args:
      outputs: maps {kind: f32[B,h,w,1]}, with `multi_label` f32[B,h,w,C]; without it also
        correct bool[B], whether the predicted class is the label. Of a batch without boxes only
        the kinds are used: all hosts must have the same names to sum over.
      boxes: box f32[B,M,4], box_mask f32[B,M], box_label i32[B,M], box_overflow i32[B] and
        example_mask f32[B], see `pipeline`.
    """
    maps, counts = outputs['maps'], self._counts
    if self._log_attention and 'attention' in maps:
      maps = maps | {BOXES_ALONE: np.log(np.maximum(maps['attention'], _SMALLEST))}
    for kind in maps:
      self._measured.setdefault(kind, [])
    for row in np.flatnonzero(boxes['example_mask']):
      mask = boxes['box_mask'][row] > 0
      box, label = boxes['box'][row][mask], boxes['box_label'][row][mask]
      image = counts['images'] + counts['without']
      counts['left_out'] += int(boxes['box_overflow'][row])
      counts['images' if len(box) else 'without'] += 1
      for c in np.unique(label):
        counts['targets'] += 1
        of_class = box[label == c] if self._multi_label else box
        correct = not self._multi_label and bool(outputs['correct'][row])
        for kind, grids in maps.items():
          grid = grids[row, :, :, c if self._multi_label else 0].copy()  # keeps no batch alive
          self._measured[kind].append(
            self._pool.submit(self._measure, grid, of_class, image, correct)
          )

  def _measure(self, grid: np.ndarray, boxes: np.ndarray, image: int, correct: bool) -> _Measured:
    hits = iou_by_level(enlarge(grid, self._size), boxes) >= np.array(IOUS)[:, None]
    return _Measured(
      image,
      correct,
      hits=np.packbits(hits, axis=1),
      pointing=points_inside(grid, boxes),
      energy=energy_inside(grid, boxes, self._size),
    )

  def wait(self, progress: Callable[[Iterable, int], Iterable] | None = None) -> None:
    """Waits until everything is measured; `progress` as in `evaluate.evaluate_split`."""
    futures = [future for of_kind in self._measured.values() for future in of_kind]
    for future in progress(futures, len(futures)) if progress else futures:
      future.result()

  def metrics(
    self, progress: Callable[[Iterable, int], Iterable] | None = None
  ) -> dict[str, float]:
    """Waits, sums the counts over all hosts and returns them through `summarise`."""
    self.wait(progress)
    counts: dict[str, np.ndarray] = {k: np.array(n) for k, n in self._counts.items()}
    for kind in self._measured:
      found, hits = self._found(kind)
      correct = np.array([m.correct for m in found], bool)
      counts[f'hits_{kind}'] = hits.sum(0)
      counts[f'correct_{kind}'] = hits[correct, IOUS.index(0.5)].sum(0)
      counts[f'pointing_{kind}'] = np.array(sum(m.pointing for m in found))
      counts[f'energy_{kind}'] = np.array(sum(round(m.energy / _UNIT) for m in found))
    counts = hosts.sum_over_hosts(counts)
    self._chosen = {kind: counts[f'hits_{kind}'].argmax(1) for kind in self._measured}
    return summarise(counts, multi_label=self._multi_label)

  def outcomes(self) -> dict[str, np.ndarray]:
    """What each image contributes to `metrics`, which must be called first.

    Returns:
      {name: f32[N]} for the N images of the host, in order, NaN without a box: maxboxacc_v2_KIND
      (the share of the three IoUs reached at the thresholds that `metrics` chose on all images),
      epg_KIND and pointing_KIND; with `multi_label` means over the classes of the image.
    """
    number = self._counts['images'] + self._counts['without']
    result = {}
    for kind, chosen in self._chosen.items():
      found, hits = self._found(kind)
      values = {f'maxboxacc_v2_{kind}': hits[:, np.arange(len(IOUS)), chosen].mean(1)}
      if kind != BOXES_ALONE:
        values[f'epg_{kind}'] = np.array([m.energy for m in found])
        values[f'pointing_{kind}'] = np.array([m.pointing for m in found])
      image = np.array([m.image for m in found], int)
      targets = np.bincount(image, minlength=number)
      for name, value in values.items():
        total = np.bincount(image, value, minlength=number)
        mean = np.divide(total, targets, out=np.full(number, np.nan), where=targets > 0)
        result[name] = mean.astype(np.float32)
    return result

  def _found(self, kind: str) -> tuple[list[_Measured], np.ndarray]:
    """(the results for n maps, their hits bool[n, IoUs, levels])."""
    found = [future.result() for future in self._measured[kind]]
    packed = np.array([m.hits for m in found], np.uint8).reshape(-1, len(IOUS), -(-LEVELS // 8))
    return found, np.unpackbits(packed, axis=2, count=LEVELS).astype(bool)


def summarise(counts: dict[str, np.ndarray], *, multi_label: bool) -> dict[str, float]:
  """The counts of `Localization.metrics` as a dict of floats and ints; {} without any box.

  Returns:
    images_with_boxes, images_without_boxes, boxes_left_out (beyond the limit of the pipeline),
    with `multi_label` box_targets (classes present, over all images), and for each kind of map
    maxboxacc_v2_KIND, without `multi_label` top1_loc_KIND and, except for log_attention, epg_KIND
    and pointing_KIND.
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
    if kind != BOXES_ALONE:
      result[f'epg_{kind}'] = float(counts[f'energy_{kind}']) * _UNIT / targets
      result[f'pointing_{kind}'] = float(counts[f'pointing_{kind}']) / targets
  return result


@functools.cache
def _interpolation(cells: int, size: int) -> np.ndarray:
  """f64[size,cells]: linear interpolation between cell centres, constant beyond the outer ones."""
  return ndimage.zoom(np.eye(cells), (size / cells, 1), order=1, mode='nearest', grid_mode=True)


def _interpolated(grid: np.ndarray, size: int) -> np.ndarray:
  """A map f64[h,w] interpolated at the pixels of the view, f64[size,size]."""
  rows, columns = (_interpolation(cells, size) for cells in grid.shape)
  return rows @ grid @ columns.T


def enlarge(grid: np.ndarray, size: int) -> np.ndarray:
  """Upsamples a map f32[h,w] to f32[size,size], scaled to 0 ... 255; all 0 if it is constant."""
  grid = np.asarray(grid, np.float64)
  if not np.isfinite(grid).all() or np.ptp(grid) == 0:
    # Neither a map with NaN nor a constant one localises anything.
    return np.zeros((size, size), np.float32)
  large = _interpolated(grid, size)
  low, high = large.min(), large.max()
  return ((large - low) / (high - low) * LEVELS).astype(np.float32)


def points_inside(grid: np.ndarray, boxes: np.ndarray) -> bool:
  """Whether the centres of all highest cells of a map f32[h,w] lie in some box f32[M,4]."""
  grid = np.asarray(grid)
  row, column = np.nonzero(grid == grid.max())  # none at all if a value is NaN
  point = np.stack([(column + 0.5) / grid.shape[1], (row + 0.5) / grid.shape[0]], -1)[:, None]
  inside = np.any(((point >= boxes[:, :2]) & (point <= boxes[:, 2:])).all(-1), axis=1)
  return len(inside) > 0 and bool(inside.all())


def energy_inside(grid: np.ndarray, boxes: np.ndarray, size: int) -> float:
  """Share of the positive mass of a map f32[h,w] inside boxes f32[M,4]; 0 without any mass."""
  mass = np.maximum(_interpolated(np.asarray(grid, np.float64), size), 0)
  total = mass.sum()
  if not total > 0:  # or NaN
    return 0.0
  centre = (np.arange(size) + 0.5) / size
  inside = (boxes[:, None, :2] <= centre[:, None]) & (centre[:, None] <= boxes[:, None, 2:])
  pixels = (inside[:, :, None, 1] & inside[:, None, :, 0]).any(0)
  return float(mass[pixels].sum() / total)


def iou_by_level(values: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """The best IoU of any component's box with any ground-truth box, at every threshold.

  Args:
    values: f32[H,W], 0 ... 255.
    boxes: f32[M,4], M > 0: (x0, y0, x1, y1) in fractions of the view.

  Returns:
    f64[255], for values >= 1 ... values >= 255; 0 where there is no component.
  """
  height, width = values.shape
  found = component_boxes(values) / np.array([width, height, width, height])
  area = np.prod(np.maximum(found[..., 2:] - found[..., :2], 0), -1)  # 0 for unused slots
  best = np.zeros(LEVELS)
  for box in np.asarray(boxes, np.float64):
    side = np.minimum(found[..., 2:], box[2:]) - np.maximum(found[..., :2], box[:2])
    common = np.prod(np.maximum(side, 0), -1)
    iou = common / (area + np.prod(box[2:] - box[:2]) - common)
    best = np.maximum(best, iou.max(0, initial=0))
  return best
