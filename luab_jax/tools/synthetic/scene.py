"""Draws images: objects of six shapes on textures of six families.

The shape is the class. The texture is a shortcut: in a correlated split, texture family k occurs
with class k more often than with the others, so that a classifier may look at the background
instead of the object. The colors of both are random and carry no information.

Coordinates are (x right, y down) in pixels of the image; (0, 0) is the top left corner.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ('disc', 'ring', 'square', 'triangle', 'cross', 'star')
NUM_TEXTURES = len(SHAPES)  # one texture family for each class
UNIFORM = 1 / NUM_TEXTURES  # the correlation at which texture and class are independent
LABEL = 'luab_jax synthetic'  # written into every file that has a field for it

_SUPERSAMPLING = 8  # subpixels per side; Pillow draws outlines half a subpixel too wide
_GAP = 1.5  # between two objects, in pixels: above a pixel's diagonal, so that they share no pixel
_MAX_TILT = 0.25  # radians either way: squares stay squares and crosses stay crosses
_NOISE = 0.03  # standard deviation, in units of full scale


@dataclasses.dataclass(frozen=True)
class Object:
  """One object in an image.

  Attributes:
    shape: index into SHAPES.
    center: (x, y) in pixels.
    radius: of the circle around `center` that contains the object, in pixels.
    outline: f64[V, 2] (x, y) vertices in pixels; a hole is connected to the outline by a slit.
    color: f64[3] RGB in [0, 1].
  """

  shape: int
  center: tuple[float, float]
  radius: float
  outline: np.ndarray
  color: np.ndarray

  @property
  def box(self) -> tuple[float, float, float, float]:
    """(xmin, ymin, xmax, ymax) in pixels."""
    (xmin, ymin), (xmax, ymax) = self.outline.min(axis=0), self.outline.max(axis=0)
    return float(xmin), float(ymin), float(xmax), float(ymax)

  @property
  def area(self) -> float:
    """Area inside the outline in square pixels (shoelace formula)."""
    x, y = self.outline.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


@dataclasses.dataclass(frozen=True)
class Scene:
  """One image: u8[height, width, 3] RGB pixels, its texture family and its objects."""

  pixels: np.ndarray
  texture: int
  objects: tuple[Object, ...]

  @property
  def width(self) -> int:
    return self.pixels.shape[1]

  @property
  def height(self) -> int:
    return self.pixels.shape[0]


def draw_scene(
  rng: np.random.Generator,
  shapes: Sequence[int],
  texture: int,
  size: int,
  radius_range: tuple[float, float],
) -> Scene:
  """Draws one image, whose objects lie fully inside it and do not touch each other.

  Args:
    rng: source of randomness; the image is a pure function of its state and the other arguments.
    shapes: indices into SHAPES, one per object. An object for which no free place is found is left
      out; there always is one for the first.
    texture: texture family, 0 <= texture < NUM_TEXTURES.
    size: short side in pixels. Three images in ten are 4:3 or 3:4, the others square.
    radius_range: (smallest, largest) radius of an object as a fraction of `size`.
  """
  long_side = round(size * 4 / 3)
  width, height = [(size, size), (long_side, size), (size, long_side)][
    rng.choice(3, p=(0.7, 0.15, 0.15))
  ]
  ground = _random_ground_colors(rng)
  tone = _texture_tone(rng, texture, width, height, size)[..., None]
  canvas = ground[0] + tone * (ground[1] - ground[0])

  objects: list[Object] = []
  for shape in shapes:
    placed = _place(rng, shape, width, height, size, radius_range, objects, ground)
    if placed is not None:
      objects.append(placed)
      cover = coverage(placed, width, height)[..., None]
      canvas = canvas + cover * (placed.color - canvas)
  canvas = canvas + rng.normal(0, _NOISE, canvas.shape)
  pixels = np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
  return Scene(pixels, int(texture), tuple(objects))


def choose_texture(rng: np.random.Generator, shape: int, correlation: float) -> int:
  """Draws a texture family: that of the class with probability `correlation`, else another one."""
  if rng.random() < correlation:
    return int(shape)
  return int((shape + rng.integers(1, NUM_TEXTURES)) % NUM_TEXTURES)


def coverage(obj: Object, width: int, height: int) -> np.ndarray:
  """Returns the fraction of each pixel that the object covers, f32[height, width] in [0, 1]."""
  mask = Image.new('L', (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
  # Pillow's vertices are pixel centres, ours are pixel corners: half a subpixel apart.
  vertices = obj.outline * _SUPERSAMPLING - 0.5
  ImageDraw.Draw(mask).polygon([tuple(v) for v in vertices.tolist()], fill=255)
  return np.asarray(mask.reduce(_SUPERSAMPLING), np.float32) / 255


def _place(
  rng: np.random.Generator,
  shape: int,
  width: int,
  height: int,
  size: int,
  radius_range: tuple[float, float],
  others: Sequence[Object],
  ground: np.ndarray,
) -> Object | None:
  """Puts an object at a random place where it touches no other one; None if there is none."""
  radius = size * rng.uniform(*radius_range)
  tilt = rng.uniform(-_MAX_TILT, _MAX_TILT)
  rotation = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
  outline = radius * _UNIT_OUTLINES[shape] @ rotation.T
  least = -outline.min(axis=0)
  greatest = (width, height) - outline.max(axis=0)
  color = _random_object_color(rng, ground)
  for _ in range(40):
    center = rng.uniform(least, greatest)
    if all(np.hypot(*(center - o.center)) > radius + o.radius + _GAP for o in others):
      return Object(int(shape), tuple(center.tolist()), float(radius), outline + center, color)
  return None


def _random_ground_colors(rng: np.random.Generator) -> np.ndarray:
  """Draws two colors f64[2, 3], far enough apart to show the texture, not to hide the object."""
  candidates = rng.uniform(0.1, 0.9, (32, 2, 3))
  distance = np.linalg.norm(candidates[:, 0] - candidates[:, 1], axis=-1)
  return candidates[np.argmin(np.abs(distance - rng.uniform(0.3, 0.5)))]


def _random_object_color(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
  """Draws a color f64[3] that differs from all mixtures of the two ground colors."""
  candidates = rng.uniform(0.0, 1.0, (32, 3))
  between = ground[0] + np.linspace(0, 1, 5)[:, None, None] * (ground[1] - ground[0])
  distance = np.linalg.norm(candidates - between, axis=-1).min(axis=0)
  return candidates[np.argmax(distance > min(0.4, distance.max() - 1e-9))]


def _texture_tone(
  rng: np.random.Generator, texture: int, width: int, height: int, size: int
) -> np.ndarray:
  """Draws the position of each pixel between the two ground colors, f64[height, width] in [0, 1].

  Period, phase and (slightly) direction are random: a family is a kind of pattern, not one image.
  """
  y, x = np.mgrid[0:height, 0:width] + 0.5
  period = size * rng.uniform(0.12, 0.2)
  phase = rng.uniform(0, 2 * np.pi, 2)
  tilt = rng.uniform(-0.12, 0.12)
  if texture == 2:  # diagonal stripes, either way
    tilt += np.pi / 4 * rng.choice((-1, 1))
  u = 2 * np.pi / period * (x * np.cos(tilt) + y * np.sin(tilt)) + phase[0]
  v = 2 * np.pi / period * (y * np.cos(tilt) - x * np.sin(tilt)) + phase[1]
  if texture == 5:  # clouds: random numbers on a coarse grid, enlarged
    cells = rng.uniform(0, 255, (round(height / period) + 2, round(width / period) + 2))
    cloud = Image.fromarray(cells.astype(np.uint8)).resize(
      (width, height), Image.Resampling.BICUBIC
    )
    return np.asarray(cloud, np.float64) / 255
  wave = {
    0: lambda: np.sin(v),  # horizontal stripes
    1: lambda: np.sin(u),  # vertical stripes
    2: lambda: np.sin(u),  # diagonal stripes
    3: lambda: np.sin(u) * np.sin(v),  # checks
    4: lambda: np.cos(u) + np.cos(v) - 0.7,  # dots
  }[int(texture)]()
  return 0.5 + 0.5 * np.clip(2.0 * wave, -1, 1)  # twice the slope: flat tones with soft edges


def _circle(radius: float, vertices: int = 32) -> np.ndarray:
  angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
  return radius * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def _unit_outlines() -> tuple[np.ndarray, ...]:
  """Returns the largest outlines f64[V, 2] inside the unit circle, one for each of SHAPES."""
  outer, inner = _circle(0.95), _circle(0.5)
  ring = np.concatenate([outer, outer[:1], inner[:1], inner[:0:-1], inner[:1]])
  corner = np.sqrt(0.5)
  square = corner * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
  arm, end = 0.3, np.sqrt(1 - 0.3**2)
  quarter = np.array([(-arm, -end), (arm, -end), (arm, -arm)])
  turn = np.array([(0, -1), (1, 0)])  # a quarter turn clockwise on the screen
  cross = np.concatenate([quarter @ np.linalg.matrix_power(turn, k).T for k in range(4)])
  star = _circle(1.0, 10) * np.where(np.arange(10) % 2, 0.4, 1.0)[:, None]
  return (_circle(0.9), ring, square, _circle(1.0, 3), cross, star)


_UNIT_OUTLINES = _unit_outlines()
