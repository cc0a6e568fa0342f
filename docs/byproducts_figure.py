"""Draws docs/byproducts.png: one example of each source of byproducts, read from small files.

PYTHONPATH=. python docs/byproducts_figure.py
"""

import io
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from luab_jax.byproducts import coco_ab, imagenet_ab, localized_narratives
from luab_jax.byproducts.archives import reader
from luab_jax.report.style import BACKGROUND, RECORDED, TEXT
from luab_jax.tools.own_data import point_files
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.problems import Problems
from luab_jax.tools.synthetic import __main__ as synthetic
from luab_jax.tools.synthetic import coco_release, imagenet_release, scene
from tfds_builders.clickme import release, small_release
from tfds_builders.coco_ab import small_narratives

SIZE = 160  # short side of the images in pixels
COUNTS = ('--train=60', '--validation=6')
COLUMNS = 4
SHADOW = [withStroke(linewidth=2.5, foreground='black', alpha=0.7)]


class Tile(NamedTuple):
  """An image and what was recorded on it; points are (x right, y down) as fractions of its size."""

  title: str
  text: str
  pixels: np.ndarray
  points: dict[str, tuple[float, float]]  # {text beside it: point}
  trace: np.ndarray | None = None  # [T, 2]
  moves: tuple = ()  # of icons, (from, to)
  heatmap: np.ndarray | None = None  # u8[H, W]


def decode(data: bytes) -> np.ndarray:
  """The pixels of an image file."""
  return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def imagenet(folder: pathlib.Path) -> Tile:
  """A click and the mouse path to it, from the XML of a synthetic ImageNet-AB."""
  synthetic.main(['--release=imagenet_ab', f'--out={folder}', f'--size={SIZE}', *COUNTS])
  images = reader.iter_class_members(folder / 'ILSVRC2012_img_train.tar')
  stem, pixels = next((name[:-5], decode(data)) for _, name, data in images if '_4.' in name)
  members = reader.iter_members(folder / 'imagenet_ab_v1_0.tar.gz')
  data = next(data for name, data in members if name.endswith(f'/{stem}.xml'))
  found = imagenet_ab.parse_xml(data)
  return Tile(
    'ImageNet-AB, our grid tool',
    'a click on the object, the mouse path\nto it, and the decision time',
    pixels,
    {'': (found.clicks.x[0], found.clicks.y[0])},
    np.stack([found.trace.x, found.trace.y], -1)[found.trace.block == found.clicks.block[0]],
  )


def coco(folder: pathlib.Path) -> Tile:
  """Icons after the replay, with their moves, from the JSON of a synthetic COCO-AB."""
  synthetic.main(['--release=coco_ab', f'--out={folder}', f'--size={SIZE}', *COUNTS])
  images = dict(reader.iter_members(folder / 'train2014.zip'))
  for record in coco_ab.read_records(folder / coco_ab.FILE_NAME):
    actions = record.actions
    icons, _ = coco_ab.replay_icons(actions)
    moved = actions.action == coco_ab.ACTION_NAMES.index('move')
    if len(icons) >= 3 and moved.any():
      pixels = decode(images[f'train2014/COCO_train2014_{record.image_id:012d}.jpg'])
      moves = zip(actions.from_xy[moved], actions.to_xy[moved], strict=True)
      text = 'one icon per class, with every move;\nalso a mouse trace and timestamps'
      return Tile('COCO-AB, our icon tool', text, pixels, icons, moves=tuple(moves))
  raise AssertionError('no icon was moved')


def narratives(folder: pathlib.Path) -> Tile:
  """A spoken description with its mouse trace, from the JSON Lines of Localized Narratives."""
  shapes = [coco_release.CLASSES.index(name) for name in ('sports ball', 'kite')]
  drawn = scene.draw_scene(np.random.default_rng(3), shapes, 2, SIZE, (0.13, 0.16))
  places = [np.divide(thing.center, (drawn.width, drawn.height)) for thing in drawn.objects]
  line = small_narratives.narrative(1, places, size=(drawn.height, drawn.width), radius=0.16)
  path = folder / small_narratives.NAME
  path.write_text(json.dumps(line) + '\n')
  (found,) = map(localized_narratives.read, localized_narratives.read_lines(path))
  words = localized_narratives.vocabulary(coco_ab.CLASS_NAMES)
  return Tile(
    'Localized Narratives',
    'the mouse trace, and when “a ball”\nand “two kites” were spoken',
    drawn.pixels,
    localized_narratives.named_points(found, words),
    found.trace_xy,
  )


def clickme(folder: pathlib.Path) -> Tile:
  """A heat map around an object, from a TFRecord of ClickMe."""
  height, width = release.SIZE
  drawn = scene.draw_scene(np.random.default_rng(18), [1], 3, width, (0.17, 0.2))  # a square image
  x, y = np.divide(drawn.objects[0].center, (width, height))
  files = [
    small_release.jpeg(image) for image in (drawn.pixels, small_release.blob(x, y, sigma=0.09))
  ]
  small_release.write(folder, {'train-0': [small_release.record(*files, label=0)]})
  ((_, data),) = release.read_shard(folder / 'train/train-0.tfrecords')
  found = release.parse(data)
  return Tile(
    'ClickMe',
    'how much each location mattered,\nmerged over participants',
    decode(found.image),
    {},
    heatmap=decode(found.heatmap)[..., 0],
  )


def own(title: str, text: str, index: int, content: Callable[..., str]) -> Callable[..., Tile]:
  """A click from a file that own_data reads; `content` returns the text of that file."""

  def read(folder: pathlib.Path) -> Tile:
    drawn, _ = imagenet_release.draw(0, 'train', index, 0.7, SIZE)
    x, y = drawn.objects[0].center
    image = ImageFile(folder / 'cat/1.jpg', folder, 'cat/1.jpg', 'cat', 'train')
    path = folder / 'clicks'
    path.write_text(content(round(x), round(y), drawn.width, drawn.height))
    with open(folder / 'problems.csv', 'w', encoding='utf-8') as file:
      problems = Problems(file)
      found = point_files.read(path, ImageIndex([image]), 'pixels', problems, what='click')
    (point,) = found.points[image.path]
    scale = (drawn.width, drawn.height) if found.units == 'pixels' else (1, 1)
    return Tile(title, text, drawn.pixels, {'': (point.x / scale[0], point.y / scale[1])})

  return read


def _label_studio(x, y, width, height) -> str:
  value = {'x': 100 * x / width, 'y': 100 * y / height, 'width': 0.4, 'keypointlabels': ['cat']}
  size = {'original_width': width, 'original_height': height, 'image_rotation': 0}
  result = {'type': 'keypointlabels', 'from_name': 'kp', 'to_name': 'image', 'value': value} | size
  annotation = {'id': 1, 'completed_by': 1, 'lead_time': 4.2, 'result': [result]}
  return json.dumps([{'id': 1, 'data': {'image': 'cat/1.jpg'}, 'annotations': [annotation]}])


def _cvat(x, y, width, height) -> str:
  return (
    f'<annotations><image id="0" name="cat/1.jpg" width="{width}" height="{height}">'
    f'<points label="cat" points="{x},{y}"/></image></annotations>'
  )


TILES = (
  imagenet,
  coco,
  narratives,
  clickme,
  own(
    'Your own table',
    'clicks in pixels or fractions,\nwith times if you have them',
    4,
    lambda x, y, *_: f'file,x,y\ncat/1.jpg,{x},{y}\n',
  ),
  own(
    'Label Studio',
    'keypoints in percent from several\nannotators, with their times',
    5,
    _label_studio,
  ),
  own('CVAT', 'points in pixels, without times\nor annotator names', 8, _cvat),
)


def draw(figure: Figure, box: tuple, tile: Tile) -> None:
  """Draws a tile into (left, bottom, width, height) of the figure."""
  axes = figure.add_axes(box)
  axes.imshow(tile.pixels, extent=(0, 1, 1, 0), aspect='auto', interpolation='bilinear')
  axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
  for side in axes.spines.values():
    side.set_visible(False)
  if tile.heatmap is not None:
    strength = tile.heatmap / 255
    axes.imshow(strength, cmap='inferno', alpha=0.75 * strength, extent=(0, 1, 1, 0), aspect='auto')
  if tile.trace is not None:
    x, y = tile.trace.T
    axes.plot(x, y, color='white', linewidth=1.3, path_effects=SHADOW)
    axes.scatter(x, y, c=np.linspace(0, 1, len(x)), cmap='plasma', s=9, zorder=3)
  for start, end in tile.moves:
    arrow = {'arrowstyle': '->', 'color': 'white', 'lw': 1.6, 'shrinkA': 0, 'shrinkB': 9}
    axes.annotate('', end, start, arrowprops=arrow | {'path_effects': SHADOW}, zorder=4)
  for name, (x, y) in tile.points.items():
    axes.plot(x, y, 'o', ms=15, mfc='none', mec='black', mew=5, zorder=5)
    axes.plot(x, y, 'o', ms=15, mfc='none', mec=RECORDED, mew=2.6, zorder=6)
    axes.annotate(
      name, (x, y), (0, -14), textcoords='offset points', ha='center', va='top', fontsize=9,
      color='white', weight='bold', path_effects=SHADOW, zorder=7,
    )  # fmt: skip
  axes.text(0, -0.045, tile.title, fontsize=11, weight='bold', color=TEXT, va='bottom')
  axes.text(0, 1.03, tile.text, fontsize=9, color=TEXT, va='top', linespacing=1.35)


def main() -> None:
  """Writes the small files, reads them and draws the figure."""
  rows = -(-len(TILES) // COLUMNS)
  figure = Figure(figsize=(3.1 * COLUMNS, 3.75 * rows), dpi=110, facecolor=BACKGROUND)
  for number, make in enumerate(TILES):
    row, column = divmod(number, COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
      tile = make(pathlib.Path(folder))
    box = (column + 0.05) / COLUMNS, 1 - (row + 0.84) / rows, 0.9 / COLUMNS, 0.73 / rows
    draw(figure, box, tile)
  buffer = io.BytesIO()
  figure.savefig(buffer)
  image = Image.open(buffer).convert('RGB')
  small = image.quantize(256, dither=Image.Dither.NONE)  # a third of the bytes
  small.save(pathlib.Path(__file__).parent / 'byproducts.png', optimize=True)


if __name__ == '__main__':
  main()
