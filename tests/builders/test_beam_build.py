"""imagenet_ab as a Beam pipeline: same files, summary and errors as a build without Beam."""

import hashlib
import io
import tarfile

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from luab_jax.errors import UserError
from tfds_builders import build_summary
from tfds_builders.backgrounds_challenge import backgrounds_challenge_dataset_builder
from tfds_builders.coco_ab import coco_ab_dataset_builder
from tfds_builders.imagenet_ab import beam_pipeline, imagenet_ab_dataset_builder, release
from tfds_builders.imagenet_ab.small_release import (
  CLICKED,
  XML_NAME,
  image,
  metadata,
  voc,
  write_class_tars,
  write_release,
  write_tar,
  xml,
)

pytestmark = pytest.mark.slow

# By its full name: `DirectRunner` may stand for a runner that first downloads a program.
RUNNER = '--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner'
PROCESSES = [RUNNER, '--direct_running_mode=multi_processing', '--direct_num_workers=2']
BOXES = 'ILSVRC2012_bbox_val_v3.tgz'


def _build(raw, out, flags=None, *, config='local', **settings):
  """Builds into `out` and returns {file: content}; `tfds build` passes such `flags` on to Beam."""
  if flags is not None:
    settings['beam_options'] = PipelineOptions(flags)
  imagenet_ab_dataset_builder.Builder(config=config, data_dir=out).download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw, **settings)
  )
  return {
    str(path.relative_to(out)): _records(path) if '.tfrecord' in path.name else path.read_bytes()
    for path in sorted(out.rglob('*'))
    if path.is_file()
  }


def _records(*paths):
  """The tf.train.Examples of TFRecord files: equal whatever the order of their features."""
  dataset = tf.data.TFRecordDataset([str(path) for path in paths])
  return [tf.train.Example.FromString(record) for record in dataset.as_numpy_iterator()]


def _summary(capsys):
  return capsys.readouterr().out.partition('Summary of ')[2]


def _class_tar(*members):
  """The bytes of a tar of (name, data); a member whose data is None is a symlink."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data or b'')
      if data is None:
        info.type, info.linkname = tarfile.SYMTYPE, '/etc/passwd'
      tar.addfile(info, io.BytesIO(data or b''))
  return file.getvalue()


def _bad_release(raw):
  """Writes a release with every kind of bad input; of two duplicates the second always differs."""
  raw.mkdir()
  write_tar(
    raw / 'my_img_train.tar',
    [
      (
        'cat.tar',
        _class_tar(
          ('1.JPEG', image('red')),
          ('1.JPEG', image('blue')),
          ('1.png', image('red', form='PNG')),
          ('2.JPEG', image('white')),
          ('3.JPEG', b'no image'),
          ('link.JPEG', None),
          ('../4.JPEG', image('red')),
          ('._1.JPEG', b''),
          ('owl/5.JPEG', image('pink')),
        ),
      ),
      ('dog.tar', _class_tar(('1.JPEG', image('green')), ('6.JPEG', image('gray')))),
      ('cat.tar', _class_tar(('1.JPEG', image('black')), ('7.JPEG', image('gray')))),
      ('owl.tar', _class_tar(('8.JPEG', image('navy')))),
    ],
  )
  # Not only class tars, so it is read sequentially.
  write_tar(
    raw / 'my_img_val.tar',
    [
      ('cat/1.JPEG', image('pink')),
      ('dog.tar', _class_tar(('9.JPEG', image('gold')))),
      ('cat/10.JPEG', image('lime')),
      ('11.JPEG', image('lime')),
    ],
  )
  for name in ('cat/1.JPEG', 'dog/1.JPEG'):
    path = raw / 'my_img_sketch' / name
    path.parent.mkdir(parents=True)
    path.write_bytes(image('tan'))
  write_tar(
    raw / XML_NAME,
    [
      ('train_xml/cat/1.xml', CLICKED),
      ('train_xml/cat/1.xml', xml(metadata())),
      ('train_xml/cat/2.xml', CLICKED[:-9]),
      ('train_xml/cat/3.xml', xml(metadata())),
      ('train_xml/dog/1.xml', xml(metadata(selected=False) + voc('dog', (4, 2, 4, 6)))),
      ('train_xml/owl/1.xml', CLICKED),
      ('train_xml/dog/77.xml', CLICKED),
      ('train_xml/cat/9.txt', b''),
      ('train_xml/../cat/9.xml', CLICKED),
    ],
    'w:gz',
  )
  write_tar(
    raw / BOXES,
    [
      ('val/9.xml', xml(voc('dog', (1, 1, 4, 4)))),
      ('val/9.xml', xml(voc('cat', (0, 0, 6, 4)))),
      ('val/10.xml', b'<annotation>'),
      ('test/10.xml', CLICKED),
    ],
    'w:gz',
  )
  return raw


def test_files_and_summary_are_those_of_a_build_without_beam(tmp_path, monkeypatch, capsys):
  """In this process, and in two worker processes that share nothing with it."""
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '0.95')
  raw = _bad_release(tmp_path / 'raw')
  plain = _build(raw, tmp_path / 'plain')
  summary = _summary(capsys)
  for line in (
    'images read 16',
    'skipped: XML given twice 2',
    'skipped: corrupt XML 2',
    'skipped: image given twice 2',
    'skipped: refused member 4',
    'skipped: undecodable image 1',
    'XMLs without an image 2',
    'boxes without area',
    'other files among the XMLs',
  ):
    assert line in ' '.join(summary.split()), line
  assert len([name for name in plain if '.tfrecord' in name]) == 3
  for name, flags in (('memory', [RUNNER]), ('processes', PROCESSES)):
    assert _build(raw, tmp_path / name, flags) == plain, name
    assert _summary(capsys) == summary, name


def test_ilsvrc2012_with_its_flat_validation_tar(tmp_path, monkeypatch, capsys):
  raw = tmp_path / 'raw'
  raw.mkdir()
  write_class_tars(
    raw / 'ILSVRC2012_img_train.tar',
    {
      'n01739381': {
        'n01739381_1309.JPEG': image((255, 0, 0, 0), mode='CMYK'),
        'n01739381_1.JPEG': image('red'),
      },
      'n99999999': {'n99999999_1.JPEG': image('red')},
    },
  )  # none of the 1000 classes
  write_tar(
    raw / 'ILSVRC2012_img_val.tar',
    [
      *((f'ILSVRC2012_val_{number:08d}.JPEG', image('red')) for number in (1, 50_000, 50_001)),
      ('notes.txt', b''),
    ],
  )
  write_tar(
    raw / BOXES, [('val/ILSVRC2012_val_00000001.xml', xml(voc('n01751748', (0, 0, 6, 4))))], 'w:gz'
  )
  write_tar(raw / XML_NAME, [('train_xml/n01739381/n01739381_1.xml', CLICKED)], 'w:gz')
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '1')
  wrong = f'^{raw}/{XML_NAME} has sha256 .*, expected 38e67940'
  with pytest.raises(UserError, match=wrong) as error:
    _build(raw, tmp_path / 'other', [RUNNER], config='ilsvrc2012')
  assert 'while running' not in str(error.value) and '\n' not in str(error.value)
  monkeypatch.setattr(
    release, 'XML_SHA256', hashlib.sha256((raw / XML_NAME).read_bytes()).hexdigest()
  )
  plain = _build(raw, tmp_path / 'plain', config='ilsvrc2012')
  summary = _summary(capsys)
  assert 'images written 4 with XML 1' in ' '.join(summary.split()) and 'boxes 2' in ' '.join(
    summary.split()
  )
  assert _build(raw, tmp_path / 'beam', [RUNNER], config='ilsvrc2012') == plain
  assert _summary(capsys) == summary


def test_several_shards_hold_the_same_records_in_the_same_order(tmp_path):
  raw = write_release(
    tmp_path / 'raw', {'cat': {f'{number}.JPEG': image('red') for number in range(40)}}
  )
  (raw / 'my_img_val.tar').unlink()
  records = []
  for name, settings in (('plain', {}), ('beam', {'beam_runner': FnApiRunner()})):
    _build(raw, tmp_path / name, num_shards=3, **settings)
    shards = sorted((tmp_path / name).rglob('*train.tfrecord*'))
    assert len(shards) == 3
    records.append(_records(*shards))
    info = tfds.builder_from_directory(shards[0].parent).info
    assert info.splits['train'].num_examples == 40
  assert len(records[0]) == 40 and records[0] == records[1]


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_class(raw):
  write_tar(raw / 'my_img_train.tar', [('1.JPEG', image('red'))])


def _twice(raw):
  write_class_tars(raw / 'my_img_train.tar', {'cat': {'1.JPEG': image('red'), '2.JPEG': b'bad'}})


def _inner(raw):
  write_tar(raw / 'my_img_train.tar', [('cat.tar', _class_tar(('1.JPEG', b''))[:400])])


@pytest.mark.parametrize(
  ('make', 'message', 'same'),
  [
    (lambda raw: _cut(raw / XML_NAME), f'{XML_NAME} is truncated or damaged', True),  # in a worker
    (_inner, 'my_img_train.tar is truncated or damaged', True),  # in a worker
    (lambda raw: _cut(raw / 'my_img_train.tar'), 'my_img_train.tar is truncated', True),
    (lambda raw: (raw / XML_NAME).unlink(), f'{XML_NAME} is missing', True),
    (_twice, '1 of 2 are bad', True),  # counted by workers; without Beam before the second split
    (_no_class, 'no image of the split train can be used', False),
  ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, make, message, same):
  raw = write_release(tmp_path / 'raw')
  make(raw)
  lines = []
  for name, flags in (('plain', None), ('beam', [RUNNER])):
    out = tmp_path / name
    with pytest.raises(UserError) as error:
      _build(raw, out, flags)
    lines.append(str(error.value))
    assert not [path for path in out.rglob('1.0.0/*') if path.is_file()]
    assert not list(out.rglob('*.tfrecord*')) and not list(out.rglob('*counts*'))
  assert message in lines[1] and '\n' not in lines[1]
  assert lines[0] == lines[1] if same else lines[0] != lines[1]


def test_errors_of_workers_that_are_text_are_found():
  """A multi-process runner raises a RuntimeError whose message holds the worker's traceback."""
  traceback = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in x\n'
    "luab_jax.errors.UserError: /x.tar is missing: get it [while running 'Read']\n\n"
  )
  for text in (traceback, traceback.replace('get it [', "get it [while running 'a'] [")):
    with (
      pytest.raises(UserError, match=r'^/x.tar is missing: get it$'),
      beam_pipeline.worker_errors(),
    ):
      raise RuntimeError(f'bundle 1 failed: {text}')
  with pytest.raises(RuntimeError, match='out of memory'), beam_pipeline.worker_errors():
    raise RuntimeError('out of memory')


@pytest.mark.parametrize('module', [coco_ab_dataset_builder, backgrounds_challenge_dataset_builder])
def test_the_other_builders_say_that_they_are_no_pipelines(tmp_path, caplog, module):
  (tmp_path / 'raw').mkdir()
  for settings, warnings in (({}, 0), ({'beam_options': PipelineOptions([])}, 1)):
    caplog.clear()
    builder = module.Builder(config=module.Builder.BUILDER_CONFIGS[1].name, data_dir=tmp_path)
    with pytest.raises(UserError):
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / 'raw', **settings)
      )
    assert sum('--beam_pipeline_options' in line for line in caplog.messages) == warnings
