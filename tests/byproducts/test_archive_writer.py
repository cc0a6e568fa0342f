"""Records made by us are those of TFDS, byte by byte."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab, imagenet_ab
from tfds_builders import build, packing
from tfds_builders.coco_ab import example as coco_example
from tfds_builders.coco_ab.join import Instance, Listed
from tfds_builders.imagenet_ab import example as imagenet_example
from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder, small_release

SETTINGS = hypothesis.settings(deadline=None, max_examples=60)
TEXT = st.text(st.characters(exclude_categories=['Cs']), max_size=9)
COORDINATE = st.floats(-1e3, 1e3)
INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
FLOAT32 = st.floats(width=32)


def _column(dtype, elements, size):
  return st.lists(elements, min_size=size, max_size=size).map(lambda rows: np.array(rows, dtype))


@st.composite
def imagenet_examples(draw):
  def points():
    size = draw(st.integers(0, 4))
    return imagenet_ab.Points(
      *(
        draw(_column(dtype, elements, size))
        for dtype, elements in (
          (np.float64, COORDINATE),
          (np.float64, COORDINATE),
          (np.int64, INT64),
          (np.int32, INT32),
        )
      )
    )

  size = draw(st.integers(0, 3))
  hovers = imagenet_ab.Hovers(
    tuple(draw(st.lists(TEXT, min_size=size, max_size=size))),
    draw(_column(np.int64, INT64, size)),
    draw(_column(np.int32, INT32, size)),
  )
  kinds = {
    'assignment_id': TEXT,
    'hit_id': TEXT,
    'worker_id': TEXT,
    'selected': st.none() | st.booleans(),
    'estimate_time_ms': st.none() | INT64,
  }
  fields = imagenet_ab.Block._fields
  blocks = [
    imagenet_ab.Block(*(draw(kinds.get(name, FLOAT32)) for name in fields))
    for _ in range(draw(st.integers(0, 3)))
  ]
  record = imagenet_ab.EMPTY._replace(blocks=blocks, clicks=points(), trace=points(), hovers=hovers)
  boxes = draw(st.integers(0, 2))
  objects = {
    'bbox': [tfds.features.BBox(0.1, 0.2, 0.3, 1 / 3)] * boxes,
    'label': ['n01é'] * boxes,
    'truncated': [-1] * boxes,
    'difficult': [1] * boxes,
  }
  return imagenet_example.encode(
    draw(st.binary(max_size=50)),
    draw(TEXT),
    draw(st.integers(0, 2)),
    (draw(INT32), draw(INT32)),
    draw(st.none() | st.just(record)),
    objects,
  )


@st.composite
def coco_examples(draw):
  xy = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=3)
  icons, traces = draw(xy), draw(xy)
  count = len(icons)
  record = coco_ab.CocoRecord(
    1,
    2,
    *(draw(st.integers(0, 2**31 - 1)) for _ in range(4)),
    draw(INT64),
    draw(TEXT),
    draw(TEXT),
    draw(INT32),
    coco_ab.Actions(
      draw(_column(np.int64, st.integers(0, 2), count)),
      tuple(draw(st.lists(st.sampled_from(['cat', 'dog', 'é']), min_size=count, max_size=count))),
      np.full((count, 2), np.nan),
      np.array(icons, np.float64).reshape(-1, 2),
      draw(_column(np.int64, INT64, count)),
    ),
    coco_ab.Categories(
      draw(_column(np.int32, INT32, 2)),
      ('Food', 'é'),
      draw(_column(np.int64, INT64, 2)),
      draw(_column(bool, st.booleans(), 2)),
    ),
    np.array(traces, np.float64).reshape(-1, 2),
    draw(_column(np.int64, INT64, len(traces))),
  )
  instances = [
    Instance(
      draw(INT64),
      draw(st.integers(0, 79)),
      1.5,
      2.0,
      3.0,
      1 / 3,
      draw(st.floats(0, 1e9)),
      draw(st.booleans()),
    )
    for _ in range(draw(st.integers(0, 3)))
  ]
  return coco_example.build_example(
    data=draw(st.binary(max_size=50)),
    file_name=draw(TEXT),
    size=(3, 4),
    listed=Listed(draw(INT64), 12, 8),
    instances=instances,
    record=draw(st.none() | st.just(record)),
  )


def _theirs(features, example):
  """The record as TFDS makes it, its features sorted by name."""
  data = features.serialize_example(features.encode_example(example))
  return tf.train.Example.FromString(data).SerializeToString(deterministic=True)


IMAGENET = imagenet_example.features(tfds.features.ClassLabel(names=['cat', 'dog', 'owl']))
COCO = coco_example.features()


@SETTINGS
@hypothesis.given(imagenet_examples())
def test_a_record_of_imagenet_ab_is_that_of_tfds(example):
  assert packing.Packer(IMAGENET)(example) == _theirs(IMAGENET, example)


@SETTINGS
@hypothesis.given(coco_examples())
def test_a_record_of_coco_ab_is_that_of_tfds(example):
  assert packing.Packer(COCO)(example) == _theirs(COCO, example)


def test_an_array_of_another_dtype_is_refused():
  """It would be cut to the feature's without a word."""
  packer = packing.Packer(
    tfds.features.FeaturesDict({'a': {'b': tfds.features.Tensor(shape=(None,), dtype=np.int32)}})
  )
  assert packer({'a': {'b': np.array([7], np.int32)}})
  with pytest.raises(TypeError, match='a/b has the dtype int64, its feature has int32'):
    packer({'a': {'b': np.array([2**40])}})


def test_a_build_takes_the_options_of_tfds_for_writing(tmp_path):
  pictures = {'8.JPEG': small_release.image('red'), '9.JPEG': small_release.image('pink')}
  raw = small_release.write_release(tmp_path / 'raw', validation={'cat': pictures})
  builder = imagenet_ab_dataset_builder.Builder(config='local', data_dir=tmp_path / 'data')
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      manual_dir=raw, max_examples_per_split=3, num_shards=2
    )
  )
  assert builder.info.splits['train'].num_examples == 3
  assert sorted(builder.info.splits['train'].shard_lengths) == [1, 2]
  assert len(list(builder.as_dataset('train'))) == 3


def test_files_are_those_that_tfds_writes(tmp_path, monkeypatch):
  """Order, shards, sizes and metadata too: the same examples through TFDS's own loop."""
  raw = small_release.write_release(tmp_path / 'raw')
  ours = build.build('imagenet_ab/local', manual_dir=raw, data_dir=tmp_path / 'ours')
  examples = {}

  class Kept(packing.Packer):
    def __call__(self, example):
      record = super().__call__(example)
      examples[record] = example
      return record

  builder_class = imagenet_ab_dataset_builder.Builder
  records = builder_class._generate_examples
  monkeypatch.setattr(packing, 'Packer', Kept)
  monkeypatch.setattr(
    builder_class, '_generate_splits', tfds.core.GeneratorBasedBuilder._generate_splits
  )
  monkeypatch.setattr(
    builder_class,
    '_generate_examples',
    lambda self, split: ((key, examples[record]) for key, record in records(self, split)),
  )
  theirs = build.build('imagenet_ab/local', manual_dir=raw, data_dir=tmp_path / 'theirs')
  assert examples and list(_files(ours)) != []
  assert _files(ours) == _files(theirs)


def _files(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}
