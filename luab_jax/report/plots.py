"""Pictures for the report: photographs with points, attention maps, curves, bars.

Matplotlib's objects without pyplot, so nothing is shared between two figures and no display is
needed. Every figure has a light neutral ground of its own and dark text: it reads the same on a
light and on a dark page. Points are (x right, y down) in [0, 1] of the image, as everywhere.
"""

import io
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

GROUND, INK, GRID = '#f7f6f2', '#24292f', '#d4d2cb'
# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow is too pale for lines.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#24292f')
TRUE, PREDICTED = '#2ee6a6', '#ff9d00'
# Violet: of the colours tried the farthest from both points for red-, green- and blue-blind eyes.
BOX = '#8a6bff'
_OVERLAY_INCHES = 6.4  # of the longer side


class Mark(NamedTuple):
  """A point on a photograph.

  Attributes:
    x, y: position in [0, 1] of the image.
    true: a person's point (a ring) or the model's (a cross).
    text: written beside it, for example the class of an icon.
  """

  x: float
  y: float
  true: bool = True
  text: str = ''


class Path(NamedTuple):
  """Points in the order of time on a photograph.

  Attributes:
    points: f32[K,2] in [0, 1] of the image, NaN where there is none.
    true: a person's path (solid) or the model's (dashed).
  """

  points: np.ndarray
  true: bool = True


def jpeg(figure) -> bytes:
  """A figure as JPEG, for photographs: a tenth of the size of a PNG."""
  return _encode(figure, 'jpg', pil_kwargs={'quality': 88})


def png(figure) -> bytes:
  """A figure as PNG, for charts."""
  return _encode(figure, 'png')


def _encode(figure, kind, **options):
  out = io.BytesIO()
  FigureCanvasAgg(figure)
  figure.savefig(out, format=kind, facecolor=GROUND, **options)
  return out.getvalue()


def photograph(image, marks=(), trace=None):
  """An image with points and a mouse trace on it.

  Args:
    image: u8[H,W,3].
    marks: Mark objects; those of the same text, or without one, are joined by a line.
    trace: f32[T,2] in the order of time, or None; drawn from dark (first) to light (last).
  """
  figure = Figure(figsize=(2.4, 2.4), dpi=100)
  _draw(_panel(figure, 0, 1), image, marks, trace)
  return figure


def photograph_and_map(image, weights, marks=(), boxes=(), paths=()):
  """The image with its points on the left, and on the right how strongly each place was weighted.

  Args:
    image: u8[H,W,3].
    weights: f32[h,w], at least 0; shown relative to their maximum.
    marks: as in `photograph`.
    boxes: f32[M,4], (x0, y0, x1, y1) in [0, 1] of the image; drawn on both.
    paths: Path objects.
  """
  figure = Figure(figsize=(4.88, 2.4), dpi=100)
  axes = _panel(figure, 0, 2)
  _draw(axes, image, marks)
  _draw_boxes(axes, boxes)
  for path in paths:
    _draw_path(axes, path)
  axes = _panel(figure, 1, 2)
  grey = image.astype(np.float32).mean(-1) / 255
  axes.imshow(0.2 + 0.5 * grey, cmap='gray', vmin=0, vmax=1, extent=(0, 1, 1, 0))
  strength = weights / max(float(weights.max()), 1e-12)
  # The weaker, the more transparent: the object stays visible where nothing is weighted.
  axes.imshow(
    strength,
    cmap='inferno',
    vmin=0,
    vmax=1,
    extent=(0, 1, 1, 0),
    alpha=np.clip(0.25 + strength, 0, 0.85),
    interpolation='bilinear',
  )
  _draw_boxes(axes, boxes)
  _open_frame(axes)
  return figure


def overlay(image, weights, view, marks=(), text=''):
  """A whole image, the part of it that the model saw, how strongly it weighted each place there.

  Args:
    image: u8[H,W,3], of any shape.
    weights: f32[h,w], at least 0; shown relative to their maximum.
    view: (x0, y0, x1, y1) in [0, 1] of the image: what the weights belong to.
    marks: as in `photograph`.
    text: a line below the image.
  """
  height, width = image.shape[:2]
  scale = _OVERLAY_INCHES / max(height, width)
  wide, high = max(width * scale, 1.0), max(height * scale, 1.0)
  strip = 0.3 if text else 0.0
  figure = Figure(figsize=(wide, high + strip), dpi=100)
  axes = figure.add_axes((0, strip / (high + strip), 1, high / (high + strip)))
  _draw(axes, image, marks)
  x0, y0, x1, y1 = view
  strength = weights / max(float(weights.max()), 1e-12)
  axes.imshow(
    strength,
    cmap='inferno',
    vmin=0,
    vmax=1,
    extent=(x0, x1, y1, y0),
    alpha=np.clip(0.7 * strength, 0, 1),
    interpolation='bilinear',
    zorder=1,
  )
  axes.add_patch(
    Rectangle(
      (x0, y0),
      x1 - x0,
      y1 - y0,
      fill=False,
      edgecolor='white',
      linewidth=1,
      linestyle=(0, (4, 3)),
      zorder=2,
      clip_on=False,
    )
  )
  _open_frame(axes)
  if text:
    figure.text(0.06 / wide, 0.09 / (high + strip), text, fontsize=9, color=INK, parse_math=False)
  return figure


def _panel(figure, column, columns):
  """Axes that fill a column of the figure, with a narrow gap between two columns."""
  gap = 0.0 if columns == 1 else 0.08 / 4.88
  width = (1 - gap * (columns - 1)) / columns
  return figure.add_axes((column * (width + gap), 0, width, 1))


def _open_frame(axes):
  axes.set(xlim=(0, 1), ylim=(1, 0), aspect='auto')
  axes.set_axis_off()


def _draw(axes, image, marks, trace=None):
  height, width = image.shape[:2]
  # Small images keep their pixels visible: smoothing would hide what the model really gets.
  smooth = 'nearest' if max(height, width) <= 120 else 'antialiased'
  axes.imshow(image, extent=(0, 1, 1, 0), interpolation=smooth)
  if trace is not None:
    axes.plot(trace[:, 0], trace[:, 1], color='black', linewidth=3.2, alpha=0.6)
    axes.plot(trace[:, 0], trace[:, 1], color='white', linewidth=1.2)
    axes.scatter(
      trace[:, 0], trace[:, 1], c=np.linspace(0, 1, len(trace)), cmap='plasma', s=16, zorder=3
    )
  for text in {mark.text for mark in marks}:
    same = [mark for mark in marks if mark.text == text]
    if len({mark.true for mark in same}) == 2:
      axes.plot([m.x for m in same], [m.y for m in same], color='white', linewidth=1.5, zorder=4)
  for mark in marks:
    _draw_mark(axes, mark)
  _open_frame(axes)


def _draw_boxes(axes, boxes):
  for x0, y0, x1, y1 in boxes:
    # A pale edge under the line: it shows on dark grounds, the violet on pale ones.
    for colour, width in (('white', 2.4), (BOX, 1.2)):
      axes.add_patch(
        Rectangle(
          (x0, y0),
          x1 - x0,
          y1 - y0,
          fill=False,
          edgecolor=colour,
          linewidth=width,
          zorder=3.5,
          clip_on=False,
        )
      )


def _draw_path(axes, path):
  # Solid and dashed as well as two colours; the square is the start, ring or cross the end.
  x, y = path.points.T
  colour, dashes = (TRUE, '-') if path.true else (PREDICTED, (0, (2.2, 1.2)))
  axes.plot(x, y, color='black', linewidth=3, alpha=0.6, zorder=4)
  axes.plot(x, y, color=colour, linewidth=1.5, linestyle=dashes, zorder=4.2)
  axes.scatter(
    x, y, s=9, color=colour, edgecolors='black', linewidths=0.5, zorder=4.4, clip_on=False
  )
  axes.scatter(
    x[0],
    y[0],
    s=44,
    marker='s',
    color=colour,
    edgecolors='black',
    linewidths=1.1,
    zorder=4.6,
    clip_on=False,
  )


def _draw_mark(axes, mark):
  # Ring and cross differ in shape, not in colour alone; a dark edge shows on any ground.
  style = {'zorder': 5, 'clip_on': False, 'edgecolors': 'black'}
  if mark.true:
    axes.scatter(mark.x, mark.y, s=110, marker='o', c='none', linewidths=4.2, **style)
    axes.scatter(
      mark.x, mark.y, s=110, marker='o', c='none', linewidths=2, **style | {'edgecolors': TRUE}
    )
  else:
    axes.scatter(mark.x, mark.y, s=120, marker='X', c=PREDICTED, linewidths=1.1, **style)
  if mark.text and mark.true:
    right = mark.x > 0.6
    axes.annotate(
      mark.text,
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


def chart_of_curves(title, curves):
  """Lines over training steps.

  Args:
    title: what is drawn, with its unit.
    curves: {name: [(step, value), ...]}; a curve of a single point is drawn as that point.
  """
  figure, axes = _chart(title, height=3.1)
  for number, (name, values) in enumerate(curves.items()):
    steps, heights = zip(*values, strict=True)
    axes.plot(
      steps,
      heights,
      color=COLOURS[number % len(COLOURS)],
      linewidth=1.8,
      marker='o' if len(values) <= 40 else None,
      markersize=4 if len(values) > 1 else 7,
      label=name.replace('_', ' '),
    )
  axes.set_xlabel('step', color=INK)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  legend = axes.legend(frameon=True, fontsize=9, facecolor=GROUND, edgecolor=GRID, labelcolor=INK)
  for text in legend.get_texts():
    text.set_parse_math(False)
  return figure


def chart_of_bars(title, names, values, *, digits=3):
  """One horizontal bar a name, in the given order from top to bottom; floats with `digits`."""
  figure, axes = _chart(title, height=0.9 + 0.23 * len(names))
  places = np.arange(len(names))
  axes.barh(places, values, color=COLOURS[0], height=0.7)
  axes.set_yticks(places, names, fontsize=9)
  for label in axes.get_yticklabels():
    label.set_parse_math(False)
  axes.set_ylim(len(names) - 0.4, -0.6)
  axes.set_xlim(0, max([*values, 1e-9]) * 1.15)
  axes.grid(False, axis='y')
  for place, value in zip(places, values, strict=True):
    text = f' {value:.{digits}f}' if isinstance(value, float) else f' {value:,}'
    axes.text(value, place, text, va='center', fontsize=9, color=INK)
  return figure


def chart_of_positions(title, points):
  """How often points lie where in the image.

  Args:
    title: what is drawn.
    points: f32[N,2] in [0, 1], N > 0.
  """
  figure, axes = _chart(title, height=3.6)
  counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=12, range=((0, 1), (0, 1)))
  shown = axes.imshow(counts, extent=(0, 1, 1, 0), cmap='viridis')
  axes.grid(False)
  axes.set_xlabel('x (to the right)', color=INK)
  axes.set_ylabel('y (down)', color=INK)
  bar = figure.colorbar(shown, ax=axes, shrink=0.85)
  bar.set_label('points', color=INK)
  bar.ax.tick_params(colors=INK)
  return figure


def _chart(title, *, height):
  figure = Figure(figsize=(5.2, height), dpi=130, layout='constrained', facecolor=GROUND)
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
  axes = figure.add_subplot(facecolor=GROUND)
  axes.set_title(title, fontsize=11, color=INK, loc='left', parse_math=False)
  axes.grid(True, color=GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=INK, labelsize=9)
  for side in axes.spines.values():
    side.set_color(GRID)
  return figure, axes
