"""Simulates what a worker's browser records for one image, from the mask of its object."""

import numpy as np

from luab_jax.byproducts.imagenet_ab import Block
from luab_jax.byproducts.imagenet_ab_writer import Showing
from luab_jax.tools.composites import masks
from luab_jax.tools.synthetic import behaviour

_SELECTED = 0.9  # fraction of the images
_DEVIATION = 1 / 6  # standard deviation of a click, as a fraction of the box's sides
_SHOWN = 150  # short side on the worker's page, in pixels
_START, _DAYS = 1640942069944, 30  # ms since 1970
_TRIES = 100


def simulate(rng: np.random.Generator, mask: np.ndarray) -> Showing:
  """Simulates one showing: a trace from a border to a click in the mask.

  One image in ten is not selected and has only the trace.

  Args:
    rng: source of randomness.
    mask: f32[H, W] in [0, 1].
  """
  height, width = mask.shape
  scale = _SHOWN / min(width, height)
  shown = round(width * scale), round(height * scale)
  time, duration = _START + int(rng.integers(_DAYS * 86_400_000)), behaviour.decision_time(rng)
  spot = aim(rng, mask, shown)
  trace = behaviour.stroke(rng, behaviour.edge_point(rng), spot, time, duration, *shown)
  selected = bool(rng.random() < _SELECTED)
  block = Block(
    assignment_id=f'3SIMULATED{rng.bytes(10).hex().upper()}',
    hit_id=f'3SIMULATED{rng.bytes(10).hex().upper()}',
    worker_id=f'SIMUL{int(rng.integers(60)):05X}',
    selected=selected,
    selected_count=int(selected),
    estimate_time_ms=duration,
    shown_x=int(rng.integers(0, 1600)),
    shown_y=int(rng.integers(100, 2400)),
    shown_width=shown[0],
    shown_height=shown[1],
    original_width=width,
    original_height=height,
    page_idx=int(rng.integers(10)),
  )
  clicks = [(time + duration, *spot)] if selected else []
  hovers = [(time, 'enter'), (time + duration + int(rng.uniform(300, 1500)), 'leave')]
  return Showing(block, clicks, trace, hovers)


def aim(rng: np.random.Generator, mask: np.ndarray, shown: tuple[int, int]) -> behaviour.Point:
  """Draws a click around the mask's centroid until it lies in the mask.

  Args:
    rng: source of randomness.
    mask: f32[H, W] in [0, 1]; pixels of at least 0.5, or half the maximum if less, are inside.
    shown: (width, height) of the image on the worker's page: clicks are at whole pixels of it.

  Returns:
    (x, y) relative to the image.
  """
  inside = mask >= min(0.5, float(mask.max()) / 2)
  rows, columns = np.nonzero(inside)
  size = np.array(mask.shape[::-1])
  xmin, ymin, xmax, ymax = masks.box(mask)
  centroid = np.array([columns.mean(), rows.mean()]) + 0.5
  for offset in rng.normal(0, _DEVIATION, (_TRIES, 2)):
    spot = behaviour.on_pixels((centroid + offset * (xmax - xmin, ymax - ymin)) / size, *shown)
    x, y = np.floor(np.multiply(spot, size)).astype(int).tolist()
    if 0 <= x < size[0] and 0 <= y < size[1] and inside[y, x]:
      return spot
  chosen = int(rng.integers(len(rows)))  # the centroid lies far outside, as in a crescent
  return behaviour.on_pixels(np.array([columns[chosen] + 0.5, rows[chosen] + 0.5]) / size, *shown)
