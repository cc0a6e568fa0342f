"""The kinds of input of benchmarks/fuzz.py: how each is made, read, and counted a second way.

A `make_…` returns the files of one input, a `check_…` writes what it has to into a folder and runs
the project's reader on it. A check returns an Outcome, or raises AssertionError where the reader
breaks a promise; any other exception is a broken promise too.
"""

import collections
import contextlib
import dataclasses
import io
import json
import pathlib
import re
import struct
import zipfile

import defusedxml.ElementTree
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks.fuzz_inputs import (
  MASK_SIZE,
  MUTATIONS,
  VALUE_MUTATIONS,
  change_value,
  mutate,
  pick,
  resize_header,
  zip_of,
)
from luab_jax.byproducts import BadRecord, coco_ab, imagenet_ab
from luab_jax.data import geometry, image_files, image_ops
from luab_jax.errors import UserError
from tfds_builders import packing
from tfds_builders.backgrounds_challenge import release
from tfds_builders.coco_ab import example as coco_example
from tfds_builders.coco_ab.join import Join, decoded
from tfds_builders.imagenet_ab import example as imagenet_example

_IMAGENET = imagenet_example.features(tfds.features.ClassLabel(names=['cat']))
_COCO = coco_example.features()


@dataclasses.dataclass
class Outcome:
  """What became of an input; records_in is counted without the reader wherever that is possible."""

  refused: str = ''  # the UserError, if the whole input was refused
  records_in: int = 0
  records_out: int = 0
  skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)

  def skip(self, reason: object) -> None:
    """Counts a record that the reader skipped and reported; by kind of reason, not by detail."""
    text = str(reason)
    assert text and '\n' not in text and len(text) < 400, f'a bad message: {text!r:.500}'
    text = re.sub(r'\(.*|: .*|[\'"].*[\'"]', '', text)
    self.skipped[' '.join(re.sub(r'-?\d\S*', '#', text).split())[:60]] += 1


def refusal(error: UserError) -> Outcome:
  """The outcome of an input that the reader refused as a whole."""
  assert '\n' not in str(error) and len(str(error)) < 1000, f'a bad message: {error!s:.1200}'
  return Outcome(refused=str(error))


def make_xml(rng, corpus):
  changes = MUTATIONS if rng.random() < 0.6 else VALUE_MUTATIONS
  return {'record.xml': mutate(rng, pick(rng, corpus.xmls), corpus.xmls, changes)}


def check_xml(files, folder):
  """One XML, through the encoding that the builder does; counts rows with defusedxml."""
  del folder
  outcome = Outcome(records_in=1)
  data = files['record.xml']
  try:
    record = imagenet_ab.parse_xml(data)
  except BadRecord as error:
    outcome.skip(error)
    return outcome
  check_imagenet_record(record)
  # Without the declared encoding, which only our reader ignores.
  data = re.sub(rb'(?s)^(\xef\xbb\xbf)?<\?xml\s.*?\?>', b'', data)
  root = defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
  blocks = [block for block in root.findall('metadata') if len(block)]
  for tag, rows in (
    ('selectedRecord', record.clicks.x),
    ('mouseTracking', record.trace.y),
    ('hoveredRecord', record.hovers.action),
  ):
    given = sum(1 for block in blocks for row in block.findall(tag) if len(row))
    assert given == len(rows), f'{given} <{tag}> given, {len(rows)} read'
  outcome.records_out = 1
  return outcome


def check_imagenet_record(record):
  """Encodes a record as the builder does: whatever the reader lets through must be storable."""
  boxes, left_out = imagenet_example.encode_boxes(record, (8, 12))
  assert len(boxes['bbox']) + left_out == len(record.boxes)
  item = imagenet_example.encode(b'', 'a.jpg', 0, (8, 12), record, boxes)
  for points in (item['clicks'], item['trace']):
    xy = np.stack([points['x'], points['y']])
    assert np.isfinite(xy).all() and (np.abs(xy) <= 1000).all(), 'an absurd coordinate'
    assert (points['block'] < len(record.blocks)).all()
  _pack(_IMAGENET, item)


def _pack(features, item):
  """Makes a record as the builder does; TFDS's own encoding, which checks more, has the same."""
  theirs = tf.train.Example.FromString(features.serialize_example(features.encode_example(item)))
  assert packing.Packer(features)(item) == theirs.SerializeToString(deterministic=True)


def make_coco_records(rng, corpus):
  """A few records; some changed as values, or the whole text changed as bytes."""
  records = [pick(rng, corpus.records) for _ in range(rng.integers(1, 5))]
  records = [{**record, 'image_id': 1000 + i} for i, record in enumerate(records)]
  texts = [json.dumps(record).encode() for record in records]
  if rng.random() < 0.5:
    at = rng.integers(len(records))
    texts[at] = json.dumps(
      change_value(rng, records[at]), ensure_ascii=bool(rng.random() < 0.5)
    ).encode(errors='surrogatepass')
    whole = b'[' + b', '.join(texts) + b']'
  else:
    changes = MUTATIONS if rng.random() < 0.6 else VALUE_MUTATIONS
    whole = mutate(rng, b'[' + b', '.join(texts) + b']', texts, changes)
  return {
    coco_ab.FILE_NAME: whole,
    'sound': b'\n'.join(texts),
    'chunk_bytes': str(rng.choice([7, 100, 5000, 1 << 20])).encode(),
  }


def check_coco_records(files, folder):
  """The stream reader, the join, the replay and the encoding; counts items with json.loads."""
  path = folder / coco_ab.FILE_NAME
  path.write_bytes(files[coco_ab.FILE_NAME])
  outcome = Outcome()
  with contextlib.closing(Join(folder)) as join:
    try:
      results = list(coco_ab.read_records(path, chunk_bytes=int(files['chunk_bytes'])))
      good = [record for record in results if isinstance(record, coco_ab.CocoRecord)]
      twins = list(join.add_records(good))
    except UserError as error:
      return refusal(error)
    for record in results:
      if isinstance(record, coco_ab.CorruptRecord):
        outcome.skip(record.reason)
    for _ in twins:
      outcome.skip('duplicate record')
    assert [record.number for record in results] == list(range(len(results)))
    outcome.records_in = _count_items(files, results, {record.image_id for record in good})
    outcome.records_out = join.unused()[1]
    for image_id in {record.image_id for record in good}:
      _check_coco_example(decoded(join.take_record(image_id)), [])
  return outcome


def _count_items(files, results, ids):
  """Returns the number of items in the file, or checks that none of the sound ones is lost."""
  text = files[coco_ab.FILE_NAME].decode('utf-8-sig', errors='replace')
  with contextlib.suppress(ValueError, RecursionError):
    items = json.loads(text)
    assert isinstance(items, list), 'no list, and read'
    return len(items)
  # No JSON as a whole. A record that stands there untouched must have been found.
  for sound in files['sound'].decode(errors='replace').splitlines():
    if f', {sound}, ' in text and re.search(r'^\{[^\[{]*"image_id": (\d{4})[,}]', sound):
      image_id = int(re.search(r'"image_id": (\d{4})[,}]', sound)[1])
      assert image_id in ids, f'the untouched record {image_id} is lost'
  return len(results)


def _check_coco_example(record, instances):
  """Encodes an example as the builder does."""
  item = coco_example.build_example(
    data=b'',
    file_name='a.jpg',
    size=(8, 12),
    instances=instances,
    record=record,
    listed=coco_example.Listed(image_id=1, width=12, height=8),
  )
  for points in (item['trace'], item['icons']):
    xy = np.array([points['x'], points['y']], np.float64)
    assert np.isfinite(xy).all() and (np.abs(xy) <= 1000).all(), 'an absurd coordinate'
  assert len(item['icons']['label']) <= len(coco_ab.CLASS_NAMES)
  assert all(np.isfinite(np.float32(area)) for area in item['objects']['area'])
  _pack(_COCO, item)


MEMBER = 'annotations/instances_train2014.json'


def make_coco_instances(rng, corpus):
  text = json.dumps(corpus.instances).encode()
  if rng.random() < 0.6:
    text = json.dumps(change_value(rng, corpus.instances)).encode()
  else:
    text = mutate(rng, text, [text])
  return {'annotations.zip': zip_of([(MEMBER, text)])}


def check_coco_instances(files, folder):
  """COCO's instances out of their zip into the join; counts entries with json.loads."""
  path = folder / 'annotations.zip'
  path.write_bytes(files['annotations.zip'])
  text = zipfile.ZipFile(path).read(MEMBER).decode('utf-8-sig', errors='replace')
  counted = _count_entries(text)
  with contextlib.closing(Join(folder)) as join:
    try:
      join.add_instances(path, MEMBER)
    except UserError as error:
      return refusal(error)
    listed, _, instances = join.unused()
    assert listed, 'a file without images was taken for one of COCO'
    for image_id in set(re.findall(r'"image_id": (\d{1,15})\b', text)):
      _check_coco_example(None, join.instances(int(image_id)))
  out = listed + instances
  return Outcome(records_in=out if counted is None else counted, records_out=out)


def _count_entries(text):
  """Returns the number of images and annotations in the JSON; None if it is no valid JSON."""
  last = []  # the outermost object ends last; pairs, since a key may come twice

  def remember(pairs):
    last[:] = pairs
    return dict(pairs)

  with contextlib.suppress(ValueError, RecursionError):
    json.loads(text, object_pairs_hook=remember)
    return sum(
      len(value)
      for key, value in last
      if key in ('images', 'annotations') and isinstance(value, list)
    )
  return None


def make_image(rng, corpus):
  data = pick(rng, corpus.images)
  if rng.random() < 0.3:
    data = resize_header(rng, data)
  if rng.random() < 0.8:
    data = mutate(rng, data, corpus.images)
  return {'image': data, 'draw': rng.bytes(4)}


def check_image(files, folder):
  """What the builders ask of an image; one that they accept must decode in the pipeline."""
  del folder
  data = files['image']
  outcome = Outcome(records_in=1)
  try:
    size = image_files.image_size(data)
  except image_files.BadImage as error:
    outcome.skip(error)
    return outcome
  assert min(size) > 0, f'accepted with a size of {size}'
  assert tuple(image_ops.decode(data).shape) == (*size, 3), 'another size in the pipeline'
  draw = np.frombuffer(files['draw'], np.uint8) / 256

  def choose(height, width):
    height, width = int(height), int(width)
    top, left = int(draw[0] * height), int(draw[1] * width)
    return geometry.Window(
      *map(
        tf.constant,
        (top, left, 1 + int(draw[2] * (height - top - 1)), 1 + int(draw[3] * (width - left - 1))),
      )
    )

  pixels, whole, window = image_ops.decode_window(tf.constant(data), choose)
  assert tuple(whole.numpy()) == size, 'another size in the header'
  assert tuple(pixels.shape) == (int(window.height), int(window.width), 3)
  outcome.records_out = 1
  return outcome


def make_mask(rng, corpus):
  data = pick(rng, corpus.masks)
  draw = rng.random()
  if draw < 0.5:
    data = mutate(rng, data, corpus.masks)
  elif draw < 0.7:  # only the values
    data = data[:128] + mutate(rng, data[128:], corpus.masks)[: len(data) - 128]
  elif draw < 0.95:
    shape = pick(
      rng,
      [
        '(12, 16)',
        '(16, 12)',
        '(10**9, 10**9)',
        '(12, 1000000000)',
        '(-12, -16)',
        '()',
        '(192,)',
        '(12, 16, 1)',
        '((12), 16)',
        'None',
        '(' * 300,
        '"a"',
      ],
    )
    header = f"{{'descr': {pick(rng, MASK_TYPES)!r}, 'fortran_order': False, 'shape': {shape}, }}"
    data = b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header.encode() + data[128:]
  return {'mask.npy': data}


MASK_TYPES = [
  '|b1',
  '|u1',
  '<i8',
  '<f8',
  '<f2',
  '<f16',
  '|O',
  '<U1',
  '|S9',
  '<c8',
  '<M8[s]',
  '|V8',
  [('a', '<i4'), ('b', '|O')],
  '|u1,' * 50,
  '<i999999999',
]


def check_mask(files, folder):
  """A foreground mask; one that is accepted holds what np.load reads."""
  del folder
  outcome = Outcome(records_in=1)
  try:
    mask = release.read_mask(files['mask.npy'], MASK_SIZE)
  except release.BadMask as error:
    outcome.skip(error)
    return outcome
  assert mask.shape == MASK_SIZE and mask.dtype == bool
  np.testing.assert_array_equal(mask, np.load(io.BytesIO(files['mask.npy']), allow_pickle=False))
  outcome.records_out = 1
  return outcome


def make_mapping(rng, corpus):
  if rng.random() < 0.5:
    value = change_value(rng, json.loads(corpus.mapping))
    return {release.MAPPING_NAME: json.dumps(value).encode()}
  return {release.MAPPING_NAME: mutate(rng, corpus.mapping, [corpus.mapping])}


def check_mapping(files, folder):
  """The class mapping of the Backgrounds Challenge."""
  path = pathlib.Path(folder) / release.MAPPING_NAME
  path.write_bytes(files[release.MAPPING_NAME])
  try:
    right = release.read_mapping(path)
  except UserError as error:
    return refusal(error)
  assert len(right) == 9 and all(right) and all(0 <= i < 1000 for row in right for i in row)
  return Outcome(records_in=1, records_out=1)
