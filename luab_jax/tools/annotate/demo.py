"""A tiny study with drawn images, to try out in a browser."""

import argparse
import os
import pathlib
import sys
import tempfile
import webbrowser
from collections.abc import Callable

import numpy as np
from PIL import Image

from luab_jax.tools.annotate import init, serve
from luab_jax.tools.synthetic import scene

_CLASSES = ('star', 'ring')
_IMAGES = 12  # of each class
_SIZE = 320  # px


def run(args: argparse.Namespace, parse: Callable[[list[str]], argparse.Namespace]) -> None:
  """Creates the study unless an earlier call did, serves it and opens a browser.

  Args:
    args: the arguments of `demo`.
    parse: the parser of the command line, for `init`.
  """
  out = args.out or pathlib.Path('runs') / f'annotate_{args.task}'
  if not (out / 'study.json').exists():
    _make(out, parse, args.task)
  has_screen = sys.platform == 'darwin' or any(map(os.environ.get, ('DISPLAY', 'WAYLAND_DISPLAY')))
  # Without a screen, a text browser would take over the terminal.
  serve.run(out, '127.0.0.1', args.port, '', webbrowser.open if has_screen else None)


def _make(out: pathlib.Path, parse: Callable[[list[str]], argparse.Namespace], task: str) -> None:
  """Creates the study, with its images next to it."""
  images = out.resolve().with_name(out.name + '_images')
  for label in _CLASSES:
    _draw(images / label, label)
  options = ['--title=A demo of luab_jax', '--about=A study to try out: nobody reads the answers.']
  if task == 'grid':
    options.append('--page_size=12')
  with tempfile.NamedTemporaryFile('w', suffix='.csv', encoding='utf-8') as table:
    if task == 'icons':
      table.write('name,group\n' + ''.join(f'{name},Shapes\n' for name in scene.SHAPES))
      table.flush()
      options.append(f'--classes={table.name}')
    init.run(parse(['init', f'--task={task}', f'--images={images}', f'--out={out}', *options]))


def _draw(folder: pathlib.Path, label: str) -> None:
  """Draws images; every other one holds the object that its folder is named after."""
  folder.mkdir(parents=True, exist_ok=True)
  shape = scene.SHAPES.index(label)
  rng = np.random.default_rng(shape)
  for number in range(_IMAGES):
    shapes = rng.choice(len(scene.SHAPES), 2, replace=False).tolist()
    if number % 2 and shape not in shapes:
      shapes[0] = shape
    drawn = scene.draw_scene(rng, shapes, number % scene.NUM_TEXTURES, _SIZE, (0.15, 0.25))
    Image.fromarray(drawn.pixels).save(folder / f'{number:02}.jpg', quality=90)
