"""Draws README's two pictures from two runs of configs/quickstart.py, with and without clicks.

make quickstart
python run.py --config=configs/quickstart.py --workdir=runs/x --config.loss.point_weight=0
PYTHONPATH=. python docs/figures.py --luab=runs/quickstart --plain=runs/x
"""

import argparse
import itertools
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from configs import quickstart
from luab_jax.data import geometry, pipeline, tfrecords
from luab_jax.data.dataset import Source
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import samples

FOLDER = pathlib.Path(__file__).parent
CLICK, PREDICTION = '#d62728', '#17becf'


def panel(figure, box, image, title=''):
  """An axes at (left, bottom, width, height) of the figure with an image over [0, 1] x [0, 1]."""
  axes = figure.add_axes(box)
  axes.imshow(image, extent=(0, 1, 1, 0), interpolation='nearest')
  axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
  axes.set_title(title, fontsize=9)
  return axes


def mark(axes, point, colour, symbol):
  axes.plot(*point, symbol, color=colour, markersize=11, markeredgecolor='white', markeredgewidth=1)


def heat(axes, weights):
  """Where the model looked, over the grey image that is there."""
  strength = weights / weights.max()
  axes.imshow(
    strength,
    cmap='inferno',
    extent=(0, 1, 1, 0),
    vmin=0,
    vmax=1,
    interpolation='bilinear',
    alpha=np.clip(0.25 + strength, 0, 0.85),
  )


def what_it_does(luab, plain, data, count=6, of=200):
  """Images whose background says nothing: where either model looked, and what it named.

  Those that the model without clicks gets wrong, the first ones; README says so.
  """
  shown = samples.evaluation_images(data, 'uncorrelated', of)
  outputs = [
    {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for parts in (
      [
        predictor.outputs(shown.image[i : i + predictor.batch_size])
        for i in range(0, of, predictor.batch_size)
      ]
      for predictor in (plain, luab)
    )
  ]
  right = [output['score'].argmax(-1) == shown.label for output in outputs]
  chosen = np.flatnonzero(~right[0])[:count]
  figure = Figure(figsize=(1.5 * count + 1.3, 5.1), dpi=110, facecolor='white')
  rows = ('image', 'trained on labels\n(λ = 0)', 'labels and clicks\n(λ = 30)')
  left, width, height = 1.2 / (1.5 * count + 1.3), 1.4 / (1.5 * count + 1.3), 1.4 / 5.1
  for row, text in enumerate(rows):
    bottom = 1 - (row + 1) * 1.65 / 5.1
    figure.text(0.005, bottom + height / 2, text, fontsize=9, va='center')
    for column, index in enumerate(chosen):
      image = shown.image[index]
      box = (left + column * width * 1.5 / 1.4, bottom, width, height)
      if row == 0:
        panel(figure, box, image, data_class(luab, shown.label[index]))
        continue
      output, good = outputs[row - 1], right[row - 1][index]
      said = data_class(luab, output['score'][index].argmax())
      axes = panel(figure, box, np.repeat(image.mean(-1, keepdims=True), 3, -1) / 255 * 0.5 + 0.2)
      axes.set_title(
        f'{"✓" if good else "✗"} {said}', fontsize=9, color='#1a7f37' if good else CLICK
      )
      heat(axes, output['weights'][index])
      mark(axes, output['predicted'][index, 0], PREDICTION, 'P')
  save(figure, 'what_it_does.png')
  print(f'right of {of}: {right[0].sum()} without clicks, {right[1].sum()} with')


def data_class(predictor, label):
  return predictor.class_names[int(label)]


def path_of_a_click(luab, data, seed=2):
  """One training example from the record to the loss."""
  source = Source(data, data.train_split)
  fields, image, clicked = next(
    (fields, source_image(fields), points[0].numpy())
    for _, record in tfrecords.in_order(source.split)
    for fields in [source.parse(record)]
    for points, has in [source.points(fields)]
    if has[0] and 0.3 < points[0, 0] < 0.7 and 0.3 < points[0, 1] < 0.7
  )
  window = next(
    window
    for number in itertools.count(seed)
    for window in [geometry.sample_window([number, 0], *image.shape[:2])]
    if 0.25 < int(window.width) * int(window.height) / image[..., 0].size < 0.6
    and geometry.move_points([clicked], [1.0], image.shape[:2], window)[1][0]
  )
  size = [data.image_size] * 2
  points, _ = geometry.move_points([clicked], [1.0], image.shape[:2], window, True)
  top, left, height, width = (int(v) for v in window)
  crop = image[top : top + height, left : left + width]
  view = pipeline.image_ops.resize(crop, size, data.resize_method).numpy()[:, ::-1]
  view = view.round().astype(np.uint8)
  output = luab.outputs(view[None])
  figure = Figure(figsize=(9.4, 2.9), dpi=110, facecolor='white')
  boxes = [(0.01 + i * 0.255, 0.2, 0.2, 0.65) for i in range(4)]
  first = panel(figure, boxes[0], image, '1, 2  record → TFDS example')
  mark(first, clicked, CLICK, 'X')
  first.add_patch(
    Rectangle(
      (left / image.shape[1], top / image.shape[0]),
      width / image.shape[1],
      height / image.shape[0],
      fill=False,
      edgecolor='white',
      linewidth=2,
    )
  )
  mark(panel(figure, boxes[1], view, '3  crop, resize, flip'), points[0], CLICK, 'X')
  grey = np.repeat(view.mean(-1, keepdims=True), 3, -1) / 255 * 0.5 + 0.2
  third = panel(figure, boxes[2], grey, '4  model: label and point')
  heat(third, output['weights'][0])
  mark(third, output['predicted'][0, 0], PREDICTION, 'P')
  last = panel(figure, boxes[3], view, '4, 5  loss and metrics')
  for point, colour, symbol in (
    (points[0], CLICK, 'X'),
    (output['predicted'][0, 0], PREDICTION, 'P'),
  ):
    mark(last, point, colour, symbol)
  last.plot(*zip(points[0], output['predicted'][0, 0], strict=True), color='white', linewidth=2)
  files = (
    'byproducts/, tfds_builders/',
    'targets.py, geometry.py,\ninput_pipeline.py',
    'models/',
    'losses.py, step.py,\nmetrics.py',
  )
  for box, text in zip(boxes, files, strict=True):
    figure.text(box[0] + 0.1, 0.17, text, fontsize=8, ha='center', va='top', family='monospace')
  for box in boxes[:-1]:
    figure.add_artist(
      FancyArrowPatch(
        (box[0] + 0.203, 0.52),
        (box[0] + 0.252, 0.52),
        mutation_scale=14,
        transform=figure.transFigure,
      )
    )
  save(figure, 'path_of_a_click.png')


def source_image(fields):
  return pipeline.image_ops.decode(fields['image']).numpy()


def save(figure, name):
  FigureCanvasAgg(figure)
  figure.savefig(FOLDER / name)


def main():
  """Writes docs/what_it_does.png and docs/path_of_a_click.png."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--luab', default='runs/quickstart')
  parser.add_argument('--plain', default='runs/x')
  parser.add_argument('--data_dir', default='data/quickstart')
  options = parser.parse_args()
  data = quickstart.get_config().data
  data.data_dir = options.data_dir
  luab, plain = (Predictor.from_run(path, batch_size=50) for path in (options.luab, options.plain))
  what_it_does(luab, plain, data)
  path_of_a_click(luab, data)


if __name__ == '__main__':
  main()
