"""Images with points, boxes, trajectories and attention maps drawn on them.

Figures are created without pyplot: no global state, no display. Points are (x right, y down) in
[0, 1] of the image.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Stroke, withStroke

from luab_jax.report.style import BACKGROUND, BOX, PREDICTED, RECORDED, TEXT

_OVERLAY_INCHES, _OVERLAY_DPI = 4.0, 160  # of the longer side: 640 pixels
# Maps with up to this many cells per side are drawn as cells; finer ones are smoothed.
_COARSE = 8


class Mark(NamedTuple):
  """A point on an image.

  Attributes:
    x, y: position in [0, 1] of the image.
    recorded: an annotator's point (drawn as a ring) or the model's (a cross).
    label: written beside it, for example the class of an icon.
  """

  x: float
  y: float
  recorded: bool = True
  label: str = ''


class Trajectory(NamedTuple):
  """A mouse path on an image.

  Attributes:
    points: f32[K,2] in time order, in [0, 1] of the image, NaN where there is none.
    recorded: an annotator's path (solid) or the model's (dashed).
  """

  points: np.ndarray
  recorded: bool = True


def image(
  pixels: np.ndarray,
  marks: Sequence[Mark] = (),
  trace: np.ndarray | None = None,
  boxes: Iterable[Sequence[float]] = (),
) -> Figure:
  """An image with points, a mouse trace and boxes on it.

  Args:
    pixels: u8[H,W,3].
    marks: points; a line joins the recorded and the predicted point of the same label.
    trace: f32[T,2] in time order, coloured from dark (first) to light (last).
    boxes: f32[M,4], (x0, y0, x1, y1) in [0, 1] of the image.
  """
  figure = Figure(figsize=(2.4, 2.4), dpi=100, facecolor=BACKGROUND)
  axes = figure.add_axes((0, 0, 1, 1))
  _draw_image(axes, pixels, marks)
  if trace is not None:
    _draw_trace(axes, trace)
  _draw_boxes(axes, boxes)
  return figure


def image_and_map(
  pixels: np.ndarray,
  weights: np.ndarray,
  marks: Sequence[Mark] = (),
  boxes: Iterable[Sequence[float]] = (),
  trajectories: Iterable[Trajectory] = (),
) -> Figure:
  """The image with its points on the left, the attention map over a grey copy on the right.

  Args:
    pixels: u8[H,W,3].
    weights: f32[h,w], non-negative; drawn relative to their maximum.
    marks: see `image`.
    boxes: f32[M,4], (x0, y0, x1, y1) in [0, 1] of the image; drawn on both sides.
    trajectories: drawn on the left.
  """
  figure = Figure(figsize=(4.88, 2.4), dpi=100, facecolor=BACKGROUND)
  edges = {'left': 0, 'right': 1, 'bottom': 0, 'top': 1, 'wspace': 0.08 / 2.4}
  left, right = figure.subplots(1, 2, gridspec_kw=edges)
  _draw_image(left, pixels, marks)
  for trajectory in trajectories:
    _draw_trajectory(left, trajectory)
  _draw_map(right, pixels, weights)
  for axes in (left, right):
    _draw_boxes(axes, boxes)
  return figure


def map_alone(
  pixels: np.ndarray,
  weights: np.ndarray,
  marks: Sequence[Mark] = (),
  boxes: Iterable[Sequence[float]] = (),
) -> Figure:
  """The right half of `image_and_map`, with points on it."""
  figure = Figure(figsize=(2.4, 2.4), dpi=100, facecolor=BACKGROUND)
  axes = figure.add_axes((0, 0, 1, 1))
  _draw_map(axes, pixels, weights)
  _draw_boxes(axes, boxes)
  for mark in marks:
    _draw_mark(axes, mark)
  return figure


def overlay(
  pixels: np.ndarray,
  weights: np.ndarray,
  view: Sequence[float],
  marks: Sequence[Mark] = (),
  text: str = '',
) -> Figure:
  """A whole image with the attention map on the crop that the model saw.

  Args:
    pixels: u8[H,W,3].
    weights: f32[h,w], non-negative; drawn relative to their maximum.
    view: (x0, y0, x1, y1) in [0, 1] of the image: the crop that the weights cover.
    marks: see `image`.
    text: a line below the image.
  """
  height, width = pixels.shape[:2]
  scale = _OVERLAY_INCHES / max(height, width)
  wide, high = max(width * scale, 0.6), max(height * scale, 0.6)
  strip = 0.22 if text else 0.0
  figure = Figure(figsize=(wide, high + strip), dpi=_OVERLAY_DPI, facecolor=BACKGROUND)
  axes = figure.add_axes((0, strip / (high + strip), 1, high / (high + strip)))
  _draw_image(axes, pixels, marks)
  x0, y0, x1, y1 = view
  draw_weights(axes, weights, (x0, x1, y1, y0), opacity=(0.0, 0.7), zorder=1)
  _draw_rectangle(axes, view, color='white', lw=1, linestyle=(0, (4, 3)), zorder=2)
  _set_limits(axes)
  if text:
    figure.text(0.05 / wide, 0.07 / (high + strip), text, fontsize=7, color=TEXT, parse_math=False)
  return figure


def draw_weights(
  axes: Axes,
  weights: np.ndarray,
  extent: tuple[float, float, float, float] = (0, 1, 1, 0),
  opacity: tuple[float, float] = (0.25, 1.25),
  zorder: float = 0,
) -> None:
  """Draws an attention map f32[h,w] over the image in the axes.

  Args:
    axes: with the image.
    weights: f32[h,w], non-negative; a coarse map, such as 3 × 3, is drawn as cells.
    extent: (left, right, bottom, top) of the map in the axes.
    opacity: at weight 0 and at the largest weight, clipped to 0.85. Low weights are transparent, so
      that the image stays visible there.
    zorder: matplotlib's zorder.
  """
  strength = weights / max(float(weights.max()), 1e-12)
  low, high = opacity
  axes.imshow(
    strength,
    cmap='inferno',
    vmin=0,
    vmax=1,
    extent=extent,
    alpha=np.clip(low + (high - low) * strength, 0, 0.85),
    interpolation='nearest' if max(weights.shape) <= _COARSE else 'bilinear',
    zorder=zorder,
  )


def _set_limits(axes: Axes) -> None:
  axes.set(xlim=(0, 1), ylim=(1, 0), aspect='auto')
  axes.set_axis_off()


def _draw_image(axes: Axes, pixels: np.ndarray, marks: Sequence[Mark]) -> None:
  # Small images keep their pixels visible: smoothing would hide the true input of the model.
  interpolation = 'nearest' if max(pixels.shape[:2]) <= 120 else 'antialiased'
  axes.imshow(pixels, extent=(0, 1, 1, 0), interpolation=interpolation)
  for label in {mark.label for mark in marks}:
    same = [mark for mark in marks if mark.label == label]
    if len({mark.recorded for mark in same}) == 2:
      edge = [withStroke(linewidth=3.2, foreground='black')]
      ends = [m.x for m in same], [m.y for m in same]
      axes.plot(*ends, color='white', linewidth=1.5, zorder=4, path_effects=edge)
  for mark in marks:
    _draw_mark(axes, mark)
  _set_limits(axes)


def _draw_map(axes: Axes, pixels: np.ndarray, weights: np.ndarray) -> None:
  grey = pixels.astype(np.float32).mean(-1) / 255
  axes.imshow(0.2 + 0.5 * grey, cmap='gray', vmin=0, vmax=1, extent=(0, 1, 1, 0))
  draw_weights(axes, weights)
  _set_limits(axes)


def _draw_boxes(axes: Axes, boxes: Iterable[Sequence[float]]) -> None:
  for x0, y0, x1, y1 in boxes:
    # A white edge for dark backgrounds, violet for light ones.
    edge = withStroke(linewidth=2.4, foreground='white')
    _draw_rectangle(axes, (x0, y0, x1, y1), color=BOX, lw=1.2, path_effects=[edge], zorder=3.5)


def _draw_rectangle(axes: Axes, box: Sequence[float], **style: Any) -> None:
  x0, y0, x1, y1 = box
  axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, clip_on=False, **style))


def _edges(dark: float, white: float) -> list[AbstractPathEffect]:
  """A dark edge for light photographs, and a white one around it for dark ones.

  Args:
    dark, white: widths in points of the lines below the coloured one.
  """
  return [
    Stroke(linewidth=white, foreground='white'),
    withStroke(linewidth=dark, foreground='black'),
  ]


def _draw_trace(axes: Axes, trace: np.ndarray) -> None:
  x, y = trace.T
  axes.plot(
    x, y, color='white', linewidth=1.4, path_effects=[withStroke(linewidth=3.6, foreground='black')]
  )
  colors: dict[str, Any] = {'c': np.linspace(0, 1, len(trace)), 'cmap': 'plasma'}
  axes.scatter(x, y, s=18, edgecolors='white', linewidths=0.6, zorder=3, **colors)


def _draw_trajectory(axes: Axes, trajectory: Trajectory) -> None:
  """Solid or dashed as well as coloured; a square marks the start, the ring or cross the end."""
  x, y = trajectory.points.T
  color, line = (RECORDED, '-') if trajectory.recorded else (PREDICTED, (0, (2.2, 1.2)))
  edge = [withStroke(linewidth=4.8, foreground='white')]
  axes.plot(x, y, color='black', linewidth=3, zorder=4, path_effects=edge)
  axes.plot(x, y, color=color, linewidth=1.5, linestyle=line, zorder=4.2)
  style: dict[str, Any] = {'color': color, 'edgecolors': 'black', 'clip_on': False}
  axes.scatter(x, y, s=9, linewidths=0.5, zorder=4.4, **style)
  style['path_effects'] = [withStroke(linewidth=3, foreground='white')]
  axes.scatter(x[0], y[0], s=44, marker='s', linewidths=1.1, zorder=4.6, **style)


def _draw_mark(axes: Axes, mark: Mark) -> None:
  # Ring and cross differ in shape as well as colour.
  style: dict[str, Any] = {'zorder': 5, 'clip_on': False}
  if mark.recorded:
    style |= {'path_effects': _edges(dark=3.8, white=5.4)}
    axes.scatter(mark.x, mark.y, s=150, marker='o', c='none', lw=2, ec=RECORDED, **style)
  else:
    style |= {'path_effects': [withStroke(linewidth=3.6, foreground='white')]}
    axes.scatter(mark.x, mark.y, s=130, marker='X', c=PREDICTED, lw=1.3, ec='black', **style)
  if mark.label and mark.recorded:
    right = mark.x > 0.6
    axes.annotate(
      mark.label,
      (mark.x, mark.y),
      xytext=(-9 if right else 9, 0),
      textcoords='offset points',
      ha='right' if right else 'left',
      va='center',
      color='white',
      fontsize=8,
      zorder=6,
      parse_math=False,
      bbox={'boxstyle': 'round,pad=0.2', 'facecolor': 'black', 'edgecolor': 'none', 'alpha': 0.65},
    )
