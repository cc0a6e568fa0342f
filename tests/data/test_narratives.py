"""Localized Narratives: reader, builder, and points that lie on the painted objects named."""

import itertools
import json
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from configs import narratives_resnet50
from luab_jax import models
from luab_jax.byproducts import coco_ab, localized_narratives
from luab_jax.byproducts.localized_narratives import BadLine, Line
from luab_jax.data import augment, pipeline, targets
from luab_jax.errors import UserError
from luab_jax.report import report
from luab_jax.train import loop
from tests.data.test_pipeline_points import check_dot, grey_levels
from tests.painted_data import config
from tests.small_models import OneBlock
from tfds_builders.build_summary import MAX_BAD_SHARE_VARIABLE
from tfds_builders.coco_ab import coco_ab_dataset_builder, small_narratives
from tfds_builders.coco_ab.small_narratives import NAME, narrative, scene, write_release

IMAGES = 40


def build(raw, data_dir, name='local_narratives'):
  builder = coco_ab_dataset_builder.Builder(config=name, data_dir=str(data_dir))
  settings = tfds.download.DownloadConfig(manual_dir=str(raw))
  builder.download_and_prepare(download_config=settings)
  decoders = {'image': tfds.decode.SkipDecoding()}
  examples = tfds.as_numpy(builder.as_dataset(split='train', decoders=decoders))
  return {int(example['image_id']): example for example in examples}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  raw, data_dir = tmp_path_factory.mktemp('raw'), tmp_path_factory.mktemp('built')
  write_release(raw, train=range(1, IMAGES + 1), validation=range(90, 98))
  return data_dir, build(raw, data_dir)


def read_all(folder, lines):
  path = folder / NAME
  path.write_bytes(b'\n'.join(line if isinstance(line, bytes) else line.encode() for line in lines))
  found = list(localized_narratives.read_lines(path))
  return [localized_narratives.read(x) if isinstance(x, Line) else x for x in found]


def record(**changes):
  image, places = scene(7)
  return narrative(7, places, size=image.shape[:2]) | changes


def test_every_value_of_a_line_is_kept(tmp_path):
  raw = record()
  (found,) = read_all(tmp_path, [json.dumps(raw), '', ' '])
  assert (found.annotator_id, found.caption) == (93, raw['caption'])
  assert found.voice_recording == 'coco_train/coco_train_7_93.ogg'
  assert ' | '.join(found.utterance) == (
    'In this image | a Ball | lies on the grass | next to two | kites,'
  )
  assert found.start_ms.tolist() == [0, 500, 1500, 2300, 2600]
  assert found.end_ms.tolist() == [400, 1400, 2200, 2500, 3500]
  points = [point for segment in raw['traces'] for point in segment]
  assert found.trace_xy.tolist() == [[p['x'], p['y']] for p in points]
  assert found.trace_xy[0].tolist() == [0.2086, -0.0533] and found.trace_time_ms[0] == 22
  np.testing.assert_allclose(found.trace_time_ms, [1000 * p['t'] for p in points], atol=1e-9)
  assert found.trace_segment.tolist() == [0] * 32 + [1] * 33


BAD_LINES = {  # {reason: line}
  'Input data was truncated': '{"image_id": "7", "caption"',
  'JSON is malformed: invalid': 'not JSON',
  'image_id 7: ': b'{"image_id": "7", "caption": "\xff"}',
  'invalid literal for int': json.dumps(record(image_id='000a045a0715d64d')),
  'got `null` - at `$.image_id`': json.dumps(record(image_id=None)),
  'image_id 7: Object missing required field `annotator_id`': json.dumps({'image_id': '7'}),
  'invalid character (byte ': json.dumps(record(traces=[[{'x': math.nan, 'y': 0.1, 't': 1.0}]])),
  '.x`': json.dumps(record(traces=[[{'x': 1e9, 'y': 0.1, 't': 1.0}]])),
  '.y`': json.dumps(record(traces=[[{'x': 0.5, 'y': None, 't': 1.0}]])),
  '$.traces`': json.dumps(record(traces=None)),
  '$.timed_caption': json.dumps(record(timed_caption=[{'utterance': 'a'}])),
}


@pytest.mark.parametrize('reason', BAD_LINES)
def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path, reason):
  lines = [json.dumps(record()), BAD_LINES[reason], json.dumps(record())]
  good, bad, other = read_all(tmp_path, lines)
  assert isinstance(bad, BadLine) and reason in str(bad)
  assert str(bad).startswith(f'{tmp_path / NAME}: line 2: ') and '\n' not in str(bad)
  assert good.caption == other.caption == record()['caption']


def test_a_missing_file_is_one_line_with_its_address(tmp_path):
  with pytest.raises(UserError, match='get coco_val_.* from https://storage.googleapis.com/local'):
    list(localized_narratives.read_lines(tmp_path / 'coco_val_localized_narratives.jsonl'))


def said(*words):
  """A narrative of utterances of a second each, with the mouse at (i / 10, 1) during number i."""
  positions = np.array([[i / 10, 1.0] for i in range(len(words))]).reshape(-1, 2)
  start = 1000 * np.arange(len(words))
  return localized_narratives.Narrative(
    0, ' '.join(words), '', words, start, start + 900, positions, start + 450, np.zeros(len(words))
  )


@pytest.mark.parametrize(
  ('words', 'found'),
  [
    (['a dog', 'and', 'a dog'], {'dog': 0.0}),  # the first mention
    (['Two', 'DOGS,'], {'dog': 0.1}),
    (['hot', 'dogs'], {'hot dog': 0.05}),  # no dog
    (['a', 'hot day', 'dog'], {'dog': 0.2}),
    (["the dog's", 'teddy bears'], {'dog': 0.0, 'teddy bear': 0.1}),
    (['people', 'on', 'buses', 'and skis'], {'person': 0.0, 'bus': 0.2, 'skis': 0.3}),
    (['mice', 'knives', 'sandwiches'], {'mouse': 0.0, 'knife': 0.1, 'sandwich': 0.2}),
    (['women', 'watch', 'television'], {'person': 0.0, 'tv': 0.2}),
    (['mobile', 'phone'], {'cell phone': 0.05}),
    (['dogged', 'carpet', 'cattle'], {}),  # parts of words do not count
    ([], {}),
  ],
)
def test_words_that_name_a_class(words, found):
  vocabulary = localized_narratives.vocabulary(coco_ab.CLASS_NAMES)
  points = localized_narratives.named_points(said(*words), vocabulary)
  assert {name: round(x, 6) for name, (x, _) in points.items()} == found


def test_a_point_is_the_median_of_the_positions_during_the_word():
  xy = np.array([[0.9, 0.9], [0.0, 0.1], [0.1, 0.3], [0.2, 0.2], [1.2, -0.1]])
  spoken = said('look', 'dog', 'bye', 'cat')._replace(
    trace_xy=xy, trace_time_ms=np.array([999, 1000, 1500, 1900, 1901])
  )
  vocabulary = localized_narratives.vocabulary(('dog', 'cat'))
  # Nothing during 'cat'.
  assert localized_narratives.named_points(spoken, vocabulary) == {'dog': (0.1, 0.2)}


def test_own_classes_and_claims_of_two():
  vocabulary = localized_narratives.vocabulary(('person', 'man', 'Fir tree', 'sheep'))
  expected = {('man',): 'man', ('men',): 'man', ('people',): 'person', ('fir', 'trees'): 'Fir tree'}
  assert expected.items() <= vocabulary.items() and vocabulary['sheep',] == 'sheep'


def test_a_track_without_a_click_is_resampled_from_end_to_end():
  columns = {
    'x': [0.9, 0.0, 1.0, 0.5, 0.7],
    'y': [0.9, 0.2, 0.2, 0.2, 0.7],
    'time_ms': np.array([5, 3000, 5000, 4000, 6000], np.int64),  # in no order
    'block': np.array([4, 2, 2, 2, 4], np.int32),  # the first narrative with a track counts
  }
  trace = {name: tf.constant(values) for name, values in columns.items()}
  points, has = targets.narrated_trace_points(trace, 5)
  np.testing.assert_allclose(points[:, 0], [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
  np.testing.assert_allclose(points[:, 1], 0.2, atol=1e-6)
  assert has.numpy().tolist() == [1] * 5
  for rows in (0, 1):
    points, has = targets.narrated_trace_points({k: v[:rows] for k, v in trace.items()}, 3)
    assert not points.numpy().any() and has.numpy().tolist() == [0] * 3


@pytest.mark.slow
def test_the_builder_keeps_every_value(built):
  _, examples = built
  assert sorted(examples) == list(range(1, IMAGES + 1))
  one, (image, places) = examples[3], scene(3)
  raw = narrative(3, places, size=image.shape[:2])
  assert one['has_record'] and one['file_name'] == b'000000000003.jpg'
  assert one['narratives']['annotator_id'].tolist() == [93]
  assert one['narratives']['caption'].tolist() == [raw['caption'].encode()]
  said = [text.encode() for text, _, _ in small_narratives.SAID]
  assert one['utterances']['text'].tolist() == said
  assert one['utterances']['end_ms'].tolist() == [400, 1400, 2200, 2500, 3500]
  points = [point for segment in raw['traces'] for point in segment]
  np.testing.assert_array_equal(one['trace']['x'], np.float32([p['x'] for p in points]))
  np.testing.assert_array_equal(one['trace']['y'], np.float32([p['y'] for p in points]))
  assert one['trace']['segment'].tolist() == [0] * 32 + [1] * 33 and not one['trace']['block'].any()
  assert one['icons']['label'].tolist() == one['labels'].tolist() == [32, 33]  # of COCO's 80
  found = np.stack([one['icons']['x'], one['icons']['y']], axis=-1)
  np.testing.assert_allclose(found, places, atol=2e-3)


@pytest.mark.slow
def test_bad_narratives_are_named_counted_and_skipped(tmp_path, monkeypatch, caplog, capsys):
  def damage(lines):
    again = json.loads(lines[0]) | {'annotator_id': 4, 'traces': [[{'x': 0.1, 'y': 0.2, 't': 0.5}]]}
    empty = json.loads(lines[2]) | {'traces': [[], []]}
    unknown = json.loads(lines[0]) | {'image_id': '777'}
    changed = [lines[0], again, lines[1].replace('"y"', '"z"'), empty, unknown, '{"image_id": "3"']
    return [line if isinstance(line, str) else json.dumps(line) for line in changed]

  (tmp_path / 'raw').mkdir()
  raw = write_release(tmp_path / 'raw', change=damage)
  with pytest.raises(UserError, match='2 × corrupt narrative'):
    build(raw, tmp_path / 'strict')
  monkeypatch.setenv(MAX_BAD_SHARE_VARIABLE, '0.5')
  examples = build(raw, tmp_path / 'data')
  assert {i: bool(e['has_record']) for i, e in examples.items()} == {1: 1, 2: 0, 3: 1, 4: 0}
  assert examples[1]['narratives']['annotator_id'].tolist() == [93, 4]
  assert np.bincount(examples[1]['trace']['block']).tolist() == [65, 1]
  icons = examples[1]['icons']
  np.testing.assert_allclose([icons['x'][0], icons['y'][0]], scene(1)[1][0], atol=2e-3)  # of 93
  assert not len(examples[3]['icons']['x']) and examples[3]['narratives']['caption'].tolist()
  for detail in (f'{NAME}: line 3: image_id 2: Object missing', f'{NAME}: line 6: Input data was'):
    assert any(detail in message for message in caplog.messages), detail
  summary = ' '.join(capsys.readouterr().out.split())
  for line in (
    'narratives 5',
    'with a narrative 2',
    'icons 2',
    'trace points 66',
    'skipped: corrupt narrative 2',
    'narratives without a trace 1',
    'narratives without an image 1',
  ):
    assert line in summary, line


@pytest.mark.slow
def test_a_missing_narrative_is_one_line(tmp_path):
  raw = write_release(tmp_path)
  (raw / NAME).unlink()
  missing = f'{NAME} is missing: get {NAME} from https://storage'
  with pytest.raises(UserError, match=missing) as error:
    build(raw, tmp_path / 'data')
  assert '\n' not in str(error.value)


@pytest.mark.slow
def test_the_option_for_icons_has_to_fit_the_data(built):
  for option in ('replayed', 'adds_only'):
    with pytest.raises(UserError, match=f"data.icons='{option}' .*set data.icons='named'"):
      pipeline.dataset_spec(config(built[0], 'coco_ab/local_narratives', icons=option))


@pytest.mark.slow
def test_points_lie_on_what_was_painted(built, monkeypatch):
  """After crop, flip and rotation: every icon, and the end of the trace, which is at the kite."""
  monkeypatch.setattr(
    augment,
    'augment',
    lambda data, *picture: augment.apply('rotate', -25 * np.pi / 180, *picture[:3]),
  )
  view = {'image_size': 64, 'eval_resize': 64, 'crop_scale': (0.3, 1.0), 'icons': 'named'}
  batches = {}
  for byproduct in ('click', 'trace'):
    data = config(built[0], 'coco_ab/local_narratives', byproduct=byproduct, trace_points=5, **view)
    spec = pipeline.dataset_spec(data)
    assert (spec.num_points, spec.is_trace) == ((5, True) if byproduct == 'trace' else (80, False))
    stream = pipeline.train_batches(data, spec, pipeline.Rows(IMAGES), seed=2)
    batches[byproduct] = list(itertools.islice(iter(stream), 2))
  found = {'seen': 0, 'away': 0}
  for icons, traces in zip(batches['click'], batches['trace'], strict=True):
    np.testing.assert_array_equal(icons['image'], traces['image'])
    levels = grey_levels(icons['image'])
    for row, picture in enumerate(levels):
      for channel, label in enumerate((32, 33)):
        point, mask = icons['point'][row, label], icons['point_mask'][row, label]
        check_dot(picture[..., channel], point, mask, found)
        assert icons['label'][row, label] == mask  # dropped with the icon
      np.testing.assert_allclose(traces['point'][row, -1], icons['point'][row, 33], atol=3e-3)
    assert (traces['label'][:, 32:34] == 1).all()  # a trace drops no label
  assert found['seen'] > 60 and found['away'] > 10


def narratives_config(built):
  c = narratives_resnet50.get_config()
  c.data.name, c.data.data_dir = 'coco_ab/local_narratives', str(built[0])
  c.data.image_size = c.data.eval_resize = 32
  return c


@pytest.mark.slow
def test_a_training_on_mouse_paths(built, tmp_path, monkeypatch):
  monkeypatch.setattr(models, 'TinyConv', OneBlock)
  c = narratives_config(built)
  c.data.byproduct, c.report_images = 'trace', 2
  c.model.name, c.model.dtype = 'tiny_conv', 'float32'
  c.batch_size, c.total_steps, c.log_every, c.eval_every_epochs = 16, 4, 2, 0.0
  run = loop.train_and_evaluate(c, tmp_path, verbose=False)
  metrics = run.summary['results']['validation']
  assert np.isfinite([metrics['class_loss'], metrics['click_error'], metrics['mAP']]).all()
  assert 1 / 2 < metrics['points_used'] <= 1  # 1 if the centre crop left nothing out
  text = report.write_report(run, tmp_path).read_text()
  assert 'Lines are mouse traces, sampled evenly' in text and 'predicted path of' in text


@pytest.mark.slow
def test_the_config_regresses_the_points_of_named_classes(built):
  data = narratives_config(built).data
  splits = pipeline.EvalSplits(data, pipeline.dataset_spec(data), pipeline.Rows(8))
  mask = next(iter(splits.batches('validation')[0]))['point_mask']
  assert mask.shape == (8, 80) and not np.delete(mask, [32, 33], axis=1).any()
  assert 8 < mask.sum() <= 16  # 16 if the centre crop left nothing out
