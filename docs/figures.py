"""Draws the README's two figures from two runs of the study in docs/study.md: with clicks, without.

Where S is the folder of the study:
PYTHONPATH=. python docs/figures.py --luab=S/spatial_map/seed0 --plain=S/spatial_no_click/seed0
"""

import argparse
import itertools
import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from configs import quickstart
from luab_jax.data import geometry, image_ops, pipeline, tfrecords
from luab_jax.data.dataset import Source
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import plots, samples

FOLDER = pathlib.Path(__file__).parent
CLICK, PREDICTION = '#d62728', '#17becf'


def draw_image(figure, box, image, title=''):
  """Axes at (left, bottom, width, height) of the figure with an image over [0, 1] x [0, 1]."""
  axes = figure.add_axes(box)
  axes.imshow(image, extent=(0, 1, 1, 0), interpolation='nearest')
  axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
  axes.set_title(title, fontsize=9)
  return axes


def draw_map(figure, box, image, output, index, title=''):
  """Axes with a grey copy of the image, the attention map and the predicted point."""
  axes = draw_image(figure, box, _grey(image), title)
  plots.draw_weights(axes, output['weights'][index])
  draw_point(axes, output['predicted'][index, 0], PREDICTION, 'P')
  return axes


def _grey(image):
  return np.repeat(image.mean(-1, keepdims=True), 3, -1) / 255 * 0.5 + 0.2


def draw_point(axes, point, colour, marker):
  axes.plot(*point, marker, color=colour, markersize=11, markeredgecolor='white', markeredgewidth=1)


def draw_predictions(luab, plain, data, columns=6, count=200):
  """Draws attention map and predicted class of both models, on uncorrelated backgrounds.

  As the README says: of the images that the model without clicks gets wrong, those on which the
  two maps overlap least.
  """
  examples = samples.evaluation_images(data, pipeline.dataset_spec(data), 'uncorrelated', count)
  outputs = []
  for predictor in (plain, luab):
    batches = [
      predictor.outputs(examples.image[i : i + predictor.batch_size])
      for i in range(0, count, predictor.batch_size)
    ]
    outputs.append({key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]})
  correct = [output['score'].argmax(-1) == examples.label for output in outputs]
  overlap = np.minimum(*(output['weights'] for output in outputs)).reshape(count, -1).sum(-1)
  chosen = sorted(np.flatnonzero(~correct[0]), key=lambda index: overlap[index])[:columns]
  figure = Figure(figsize=(1.5 * columns + 1.3, 5.1), dpi=110, facecolor='white')
  rows = ('image', 'trained\non labels', 'trained on labels\nand clicks')
  left, width, height = 1.25 / (1.5 * columns + 1.3), 1.4 / (1.5 * columns + 1.3), 1.4 / 5.1
  for row, text in enumerate(rows):
    bottom = 1 - (row + 1) * 1.65 / 5.1
    figure.text(0.005, bottom + height / 2, text, fontsize=9, va='center')
    for column, index in enumerate(chosen):
      image = examples.image[index]
      box = (left + column * width * 1.5 / 1.4, bottom, width, height)
      if row == 0:
        draw_image(figure, box, image, _shape(luab, examples.label[index]))
        continue
      output, is_correct = outputs[row - 1], correct[row - 1][index]
      axes = draw_image(figure, box, _grey(image))
      plots.draw_weights(axes, output['weights'][index])
      axes.set_title(
        f'{"✓" if is_correct else "✗"} {_shape(luab, output["score"][index].argmax())}',
        fontsize=9,
        color='#1a7f37' if is_correct else CLICK,
      )
  figure.savefig(FOLDER / 'what_it_does.png')
  print(f'correct of {count}: {correct[0].sum()} without clicks, {correct[1].sum()} with')


def _shape(predictor, label):
  return predictor.class_names[label].removeprefix('synthetic_')


def choose_example(data, seed):
  """(image, label, click, crop window) of a training example, its click near both centres."""
  source = Source(data, pipeline.dataset_spec(data), data.train_split)
  image, label, click = next(
    (image_ops.decode(fields['image']).numpy(), int(fields['label']), points[0].numpy())
    for _, record in tfrecords.in_order(source.split)
    for fields in [source.parse(record)]
    for points, has in [source.points(fields)]
    if has[0] and _near_centre(points[0])
  )
  window = next(
    window
    for number in itertools.count(seed)
    for window in [geometry.sample_window([number, 0], *image.shape[:2])]
    if 0.3 < int(window.width) * int(window.height) / image[..., 0].size < 0.6
    and _near_centre(geometry.move_points([click], [1.0], image.shape[:2], window)[0][0])
  )
  return image, label, click, window


def _near_centre(point):
  return 0.3 < point[0] < 0.7 and 0.3 < point[1] < 0.7


def draw_click_path(luab, data, seed=2):
  """Draws one training example on its way from the record to the loss, with its numbers."""
  image, label, click, window = choose_example(data, seed)
  points, _ = geometry.move_points([click], [1.0], image.shape[:2], window, True)
  top, left, height, width = (int(v) for v in window)
  crop = image[top : top + height, left : left + width]
  view = image_ops.resize(crop, [data.image_size] * 2, data.resize_method).numpy()
  view = view[:, ::-1].round().astype(np.uint8)
  output = luab.outputs(view[None])
  figure = Figure(figsize=(9.4, 3.6), dpi=110, facecolor='white')
  boxes = [(0.01 + i * 0.255, 0.32, 0.215, 0.56) for i in range(4)]
  axes = draw_image(figure, boxes[0], image, 'record: image and click')
  draw_point(axes, click, CLICK, 'X')
  full_height, full_width = image.shape[:2]
  corner, size = (left / full_width, top / full_height), (width / full_width, height / full_height)
  axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor='white', linewidth=2))
  axes = draw_image(figure, boxes[1], view, 'training example')
  draw_point(axes, points[0], CLICK, 'X')
  draw_map(figure, boxes[2], view, output, 0, 'model: where it looks')
  axes = draw_image(figure, boxes[3], view, 'loss: class and point')
  predicted, score = output['predicted'][0, 0], float(output['score'][0, label])
  axes.plot(*zip(points[0], predicted, strict=True), color='white', linewidth=2)
  draw_point(axes, points[0], CLICK, 'X')
  draw_point(axes, predicted, PREDICTION, 'P')
  distance = float(np.linalg.norm(predicted - np.asarray(points[0])))
  numbers = (
    f'click at {_at(click)} of the image\nwhite frame: the random crop',
    f'crop resized and flipped\nclick at {_at(points[0])} of the crop',
    f'{luab.class_names[label].removeprefix("synthetic_")}: {score:.1%}\npoint at {_at(predicted)}',
    f'cross-entropy {-np.log(score):.3f}\nclick error {distance:.3f}: the distance',
  )
  draw_stages(figure, boxes, numbers)
  figure.savefig(FOLDER / 'path_of_a_click.png')


def _at(point):
  return f'({float(point[0]):.2f}, {float(point[1]):.2f})'


def draw_stages(figure, boxes, numbers):
  """Adds numbers and folders below the images, arrows between them, and a legend."""
  folders = ('byproducts/, tfds_builders/', 'data/', 'models/', 'train/, evaluate/')
  for (left, *_), text, folder in zip(boxes, numbers, folders, strict=True):
    figure.text(left + 0.107, 0.295, text, fontsize=8, ha='center', va='top')
    figure.text(left + 0.107, 0.175, folder, fontsize=8, ha='center', va='top', family='monospace')
  for left, *_ in boxes[:-1]:
    start, end = (left + 0.217, 0.6), (left + 0.254, 0.6)
    arrow = FancyArrowPatch(
      start, end, mutation_scale=14, transform=figure.transFigure, color='#57606a'
    )
    figure.add_artist(arrow)
  figure.text(
    0.01,
    0.03,
    'Positions are (x, y) as fractions of width and height, x to the right, y down. '
    'Red ×: recorded click. Blue +: predicted point,\nthe centre of mass of the attention map '
    '(brighter: more weight). Percentage: probability of the correct class. '
    'Below each step: the folders with its code.',
    fontsize=8,
    color='#57606a',
  )


def main():
  """Writes docs/what_it_does.png and docs/path_of_a_click.png."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--luab', required=True, help='folder of a run with clicks')
  parser.add_argument('--plain', required=True, help='folder of the same run without clicks')
  parser.add_argument('--data_dir', default='data/quickstart')
  options = parser.parse_args()
  data = quickstart.get_config().data
  data.data_dir = options.data_dir
  luab, plain = (Predictor.from_run(path, batch_size=50) for path in (options.luab, options.plain))
  draw_predictions(luab, plain, data)
  draw_click_path(luab, data)


if __name__ == '__main__':
  main()
