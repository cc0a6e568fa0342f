"""A data set of one class, from own data through training and its report to predictions."""

import json
import shlex

import numpy as np
import pytest

from configs import own_data as own_config
from luab_jax import models
from luab_jax.report import draw_run
from luab_jax.tools import predict
from luab_jax.tools.own_data import __main__ as own_data
from tests.painted_data import encode, paint
from tests.small_models import OneBlock
from tfds_builders import build

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
  """These tests spend most of their time compiling."""
  monkeypatch.setattr(models, 'TinyConv', OneBlock)


def _own_data(folder, layout):
  """Writes twenty images with a dot and a click on it, in class folders or as COCO.

  Returns:
    The arguments of own_data.
  """
  rows, images, annotations = [], [], []
  places = np.random.default_rng(0).uniform(0.3, 0.7, (20, 2))
  for number, (x, y) in enumerate(places):
    path = folder / f'photos/cup/{number}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(paint(48, 48, [(x, y)]), 'PNG'))
    rows.append(f'cup/{number}.png,mug,{x * 48},{y * 48}\n')
    images.append({'id': number, 'file_name': f'cup/{number}.png', 'height': 48, 'width': 48})
    annotations.append({'image_id': number, 'category_id': 3, 'bbox': [5, 5, 20, 20]})
  (folder / 'points.csv').write_text('file,class,x,y\n' + ''.join(rows))
  (folder / 'i.json').write_text(
    json.dumps(
      {
        'images': images,
        'annotations': annotations[1:],  # an image without an object
        'categories': [{'id': 3, 'name': 'mug'}],
      }
    )
  )
  arguments = [f'--images={folder}/photos', f'--out={folder}/raw', '--validation_fraction=0.4']
  if layout == 'folders':
    return [*arguments, f'--clicks={folder}/points.csv']
  return [*arguments, f'--coco={folder}/i.json', f'--icons={folder}/points.csv']


@pytest.mark.parametrize('layout', ['folders', 'coco'])
def test_from_images_to_a_prediction(layout, tmp_path, capsys):
  own_data.main(_own_data(tmp_path, layout))
  command = next(x for x in capsys.readouterr().out.splitlines() if 'tfds_builders.build' in x)
  build_arguments = shlex.split(command)[3:]
  assert build.main(build_arguments) == 0
  config = own_config.get_config()
  config.data.name, config.data.data_dir = build_arguments[0], f'{tmp_path}/raw/built'
  config.data.image_size = config.data.eval_resize = 32
  config.model.name = 'tiny_conv'
  config.batch_size, config.total_steps, config.report_images = 8, 2, 1
  config.eval_every_epochs = 0.0
  draw_run.train_and_report(config, tmp_path / 'run')
  images = [str(tmp_path / f'photos/cup/{number}.png') for number in range(3)]
  assert predict.predict_files(tmp_path / 'run', images) == 0
  with open(tmp_path / 'run/predictions/predictions.jsonl') as file:
    lines = [json.loads(line) for line in file]
  assert [line['labels'] for line in lines] == 3 * [[{'folders': 'cup', 'coco': 'mug'}[layout]]]
  scores = [line['scores'] for line in lines]
  # Single-label images can only be of the one class; multi-label images may lack it.
  if layout == 'folders':
    assert scores == [[1.0]] * 3
  else:
    assert all(0 < score < 1 for (score,) in scores)
