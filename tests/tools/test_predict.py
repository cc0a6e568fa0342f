"""Prediction: points in the original image, the pipeline's own view, every file accounted for."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import types
import urllib.parse

import jax
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from configs import quickstart, quickstart_coco
from luab_jax.data import image_files, tfrecords
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import plots, samples
from luab_jax.tools import predict
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests.html_page import Page
from tests.painted_data import encode, paint

pytestmark = pytest.mark.slow

EXIF_OF_PHONES = 6  # to be rotated clockwise for display


def _run(config, workdir):
  """A run without training: a checkpoint whose parameters, not their averages, have added noise."""
  run = Experiment(config)
  checkpoints = loop.open_checkpoints(workdir, config)
  state, _ = run.init_or_restore(checkpoints)
  rng = np.random.default_rng(0)  # the attention layer starts at zero, a uniform map
  state = state.replace(
    params=jax.tree.map(
      lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32), state.params
    )
  )
  log = types.SimpleNamespace(partial_sums=dict, unwritten_lines=list)
  checkpoints.save(1, state, run.metadata(1, log))
  checkpoints.close()
  return run, state


def _small(config, data_dir):
  config.data.data_dir, config.data.image_size, config.data.eval_resize = data_dir, 32, 36
  config.data.train_split = 'train'
  config.data.eval_splits = {}
  return config


@pytest.fixture(scope='module')
def run(synthetic_imagenet_ab, tmp_path_factory):
  """(config, workdir, Experiment, state) of a model whose averaged parameters differ."""
  config = _small(quickstart.get_config(), synthetic_imagenet_ab)
  config.optimizer.ema_decay = 0.9
  workdir = tmp_path_factory.mktemp('run')
  return config, workdir, *_run(config, workdir)


def _image_files(data_dir, name, count, folder):
  """Writes the first images of the training split as files; returns their paths in order."""
  builder = tfrecords.open_builder(name, data_dir)
  paths = []
  decoders = {'image': tfds.decode.SkipDecoding()}
  rows = builder.as_dataset(split='train', decoders=decoders, shuffle_files=False)
  for number, row in enumerate(rows.take(count).as_numpy_iterator()):
    paths.append(folder / f'{number}.jpg')
    paths[-1].write_bytes(row['image'])
  return paths


@pytest.mark.parametrize('several', [False, True])
def test_files_are_seen_as_evaluation_sees_them(
  several, synthetic_imagenet_ab, synthetic_coco_ab, tmp_path
):
  data_dir = synthetic_coco_ab if several else synthetic_imagenet_ab
  config = _small((quickstart_coco if several else quickstart).get_config(), data_dir)
  if not several:
    config.model.head, config.model.dtype = 'linear', 'float32'
  run, state = _run(config, tmp_path / 'run')
  paths = _image_files(data_dir, config.data.name, 5, tmp_path)
  predictor = Predictor.from_run(tmp_path / 'run', batch_size=2)
  assert predictor.class_names == run.spec.class_names and predictor.multi_label is several
  assert predictor.map_kind == ('attention' if several else 'cam')
  found = predictor([image_files.read_upright(path.read_bytes()) for path in paths])
  whole = Predictor(
    run.model,
    state.eval_variables(),
    data=config.data,
    batch_size=2,
    class_names=run.spec.class_names,
    multi_label=several,
  )
  wanted = samples.predictions(whole, run.spec, 'train', 5)
  for i, result in enumerate(found):
    best = np.argsort(-wanted.score[i], kind='stable')[:5]
    np.testing.assert_allclose(result['scores'], wanted.score[i][best], rtol=1e-5)
    assert result['labels'] == [run.spec.class_names[c] for c in best]
    points = wanted.predicted[i][best] if several else wanted.predicted[i]
    x0, y0, x1, y1 = result['view']
    np.testing.assert_allclose(
      result['points_fraction'], [x0, y0] + points * [x1 - x0, y1 - y0], atol=1e-5
    )
  assert len(result['points']) == (5 if several else 1)


def test_a_command_line_of_good_and_bad_files(run, synthetic_imagenet_ab, tmp_path, capsys):
  config, workdir, _, _ = run
  folder = tmp_path / 'images'
  (folder / 'deep').mkdir(parents=True)
  (dog,) = _image_files(synthetic_imagenet_ab, config.data.name, 1, tmp_path)
  shutil.copy(dog, folder / 'deep/dog.JPG')
  (folder / 'broken.jpg').write_bytes(dog.read_bytes()[:200])
  (folder / 'notes.txt').write_text('no image')
  (folder / '.hidden.jpg').write_bytes(b'')
  PIL.Image.fromarray(paint(30, 80, [(0.5, 0.5)])).save(folder / 'wide.webp')
  (folder / 'long.png').write_bytes(encode(paint(2, 400, [(0.5, 0.5)]), 'PNG'))
  status = predict.predict_files(workdir, [str(folder), str(dog)])
  said = capsys.readouterr().out.splitlines()
  assert status == predict.EXIT_SKIPPED == 65
  assert said[-1] == (
    '3 predicted, 2 skipped, 1 file without an image extension ignored: '
    f'open {workdir}/predictions/index.html (as tables: predictions.csv, predictions.jsonl)'
  )
  lines = [
    json.loads(line)
    for line in (workdir / 'predictions/predictions.jsonl').read_text().splitlines()
  ]
  names = ['broken.jpg', 'deep/dog.JPG', 'long.png', 'wide.webp']
  assert [line['file'] for line in lines] == [*(str(folder / name) for name in names), str(dog)]
  assert [set(line) == {'file', 'skipped'} for line in lines] == [True, False, True, False, False]
  assert 'more than 50 times' in lines[2]['skipped'] and len(said) == 6
  same = {k: v for k, v in lines[1].items() if k not in ('file', 'overlay')}
  assert same == {k: v for k, v in lines[4].items() if k not in ('file', 'overlay')}
  for line in (lines[1], lines[3], lines[4]):
    overlay = PIL.Image.open(workdir / 'predictions' / line['overlay'])
    assert overlay.size[0] == pytest.approx(640 * min(1, line['width'] / line['height']), abs=1)
    assert len(line['labels']) == 5 and min(line['scores']) >= 0 and sum(line['scores']) < 1.001
    np.testing.assert_allclose(
      line['points'], np.array(line['points_fraction']) * [line['width'], line['height']]
    )
  assert (lines[3]['width'], lines[3]['height']) == (80, 30)
  _check_page_and_table(workdir / 'predictions', lines)
  # Again with fewer images: the earlier files are gone, and nothing is skipped.
  assert predict.predict_files(workdir, [str(dog)]) == 0
  left = {path.name for path in (workdir / 'predictions').iterdir()}
  pages = {'index.html', 'predictions.csv', 'predictions.jsonl'}
  assert left == {'.written.json', *pages, '000000_0.png'}


def _check_page_and_table(folder, lines):
  with open(folder / 'predictions.csv', newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert [row['file'] for row in rows] == [line['file'] for line in lines]
  for row, line in zip(rows, lines, strict=True):
    assert row['skipped'] == line.get('skipped', '')
    if not row['skipped']:
      assert row['label'] == line['labels'][0]
      numbers = [float(row[name]) for name in ('score', 'x', 'y')]
      assert numbers == pytest.approx([line['scores'][0], *line['points'][0]], abs=0.01)
  page = Page(folder / 'index.html')
  shown = [urllib.parse.unquote(image['src']) for image in page.images]
  assert shown == [line['overlay'] for line in lines if 'overlay' in line]
  assert all((folder / name).is_file() for name in shown)
  assert 'Skipped files' in page.text and 'more than 50 times' in page.text


def test_images_of_the_users_among_the_predictions(run, synthetic_imagenet_ab, tmp_path, capsys):
  """Files in predictions/ are neither predicted nor removed; long names are shortened."""
  config, workdir, _, _ = run
  shutil.copytree(workdir, tmp_path / 'run')
  (image,) = _image_files(synthetic_imagenet_ab, config.data.name, 1, tmp_path)
  image = image.rename(tmp_path / f'{chr(0x732B) * 80}.jpg')
  out = tmp_path / 'run/predictions'
  assert predict.predict_files(tmp_path / 'run', [str(image)]) == 0
  overlay = shutil.copy(next(out.glob('*.png')), out / '000001_mine.png')
  before = sorted(out.iterdir())
  (tmp_path / 'link').symlink_to(out)
  for path in (out, overlay, tmp_path / 'link', tmp_path / 'run'):
    with pytest.raises(UserError, match='inside the (output|image) folder'):
      predict.predict_files(tmp_path / 'run', [str(path)])
    assert sorted(out.iterdir()) == before
  assert predict.predict_files(tmp_path / 'run', [str(image)]) == 0
  assert sorted(out.iterdir()) == before


def test_output_that_nobody_reads_any_more(run, synthetic_imagenet_ab, tmp_path):
  """As in `| head`: the exit status of SIGPIPE, and nothing on stderr."""
  config, workdir, _, _ = run
  (image,) = _image_files(synthetic_imagenet_ab, config.data.name, 1, tmp_path)
  shutil.copytree(workdir, tmp_path / 'run')
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
    [sys.executable, 'run.py', '--mode=predict', f'--workdir={tmp_path}/run', image],
    stdout=writer,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.close(writer)
  assert (done.returncode, done.stderr) == (141, '')


def test_photographs_are_turned_upright():
  upright = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
  stored = PIL.Image.fromarray(np.rot90(upright))  # upright again after a clockwise rotation
  for kind in ('PNG', 'TIFF', 'WEBP'):
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = EXIF_OF_PHONES
    stored.save(file, kind, exif=exif, **({'lossless': True} if kind == 'WEBP' else {}))
    np.testing.assert_array_equal(image_files.read_upright(file.getvalue()), upright)
    encoded = image_files.encode(file.getvalue(), upright=True)
    assert encoded.suffix and image_files.image_size(encoded.data) == encoded.size == (20, 30)
    assert image_files.encode(encoded.data, upright=True).data == encoded.data


def test_the_averaged_parameters_of_the_newest_intact_checkpoint(run, tmp_path, capsys):
  config, _, experiment, state = run
  workdir = tmp_path / 'run'
  checkpoints = loop.open_checkpoints(workdir, config)
  log = types.SimpleNamespace(partial_sums=dict, unwritten_lines=list)
  scaled = [
    state.replace(
      ema_params=_times(state.ema_params, f), ema_batch_stats=_times(state.ema_batch_stats, 4 * f)
    )
    for f in (1.0, 1.5)
  ]
  for step, one in enumerate(scaled, 1):
    checkpoints.save(step, one, experiment.metadata(step, log))
  checkpoints.close()
  image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)

  def expected(one):
    variables = {'params': one.ema_params, 'batch_stats': one.ema_batch_stats}
    return jax.nn.softmax(experiment.model.apply(variables, image, train=False)['logits'])

  def predicted():
    return Predictor.from_run(workdir, batch_size=1).outputs(image)['score']

  np.testing.assert_allclose(predicted(), expected(scaled[1]), atol=1e-3)
  for path in (workdir / 'checkpoints/2/metadata').rglob('*'):
    path.unlink()
  before = sorted(workdir.rglob('*'))
  np.testing.assert_allclose(predicted(), expected(scaled[0]), atol=1e-3)
  assert 'checkpoint 2 is skipped' in capsys.readouterr().err
  assert sorted(workdir.rglob('*')) == before  # only read
  assert np.abs(expected(scaled[0]) - expected(scaled[1])).max() > 1e-2


def _times(tree, factor):
  return jax.tree.map(lambda leaf: leaf * factor, tree)


def test_the_overlay_covers_the_view():
  weights = np.zeros((4, 4), np.float32)
  weights[0, 0] = 1
  file = io.BytesIO()
  plots.overlay(np.zeros((50, 100, 3), np.uint8), weights, (0.25, 0, 0.75, 1)).savefig(file)
  pixels = np.asarray(PIL.Image.open(file).convert('RGB')).astype(int).sum(-1)
  assert pixels.shape == (320, 640)
  assert pixels[5:35, 165:195].min() > 300  # the first cell without its blurred edge
  assert pixels[:, :155].max() < 30 and pixels[200:310, 330:470].max() < 30


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['a.jpg'], 'Add --workdir'),
    (['--workdir=x'], 'which images?'),
    (['--workdir=x', 'a.jpg', '--config=configs/quickstart.py'], 'leave --config out'),
    (['--workdir=x', '/absent/a.jpg'], 'there is no file or folder /absent/a.jpg'),
  ],
)
def test_mistakes_are_one_line(arguments, message):
  if arguments[-1] == '/absent/a.jpg':
    with pytest.raises(UserError, match=message):
      predict.predict_files('x', arguments[1:])
    return
  result = subprocess.run(
    [sys.executable, 'run.py', '--mode=predict', *arguments], capture_output=True, text=True
  )
  assert result.returncode == 2 and message in result.stderr
  assert len(result.stderr.splitlines()) == 1, result.stderr


def test_no_run_is_one_line(tmp_path):
  with pytest.raises(UserError, match='holds no checkpoint: train first'):
    Predictor.from_run(tmp_path)
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(UserError, match='holds no checkpoint: train first'):
    Predictor.from_run(tmp_path)
