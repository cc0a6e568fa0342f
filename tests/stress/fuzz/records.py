"""Byproduct records for tests.stress.fuzz: how they are made, read, and counted independently.

A `make_…` function returns the files of one input. A `check_…` function writes those it needs into
a folder, runs the project's reader, and returns an Outcome. It raises AssertionError if the reader
breaks a promise; any other exception counts as a broken promise, too.
"""

import contextlib
import json
import re
import zipfile

import defusedxml.ElementTree
import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import BadRecord, coco_ab, imagenet_ab
from luab_jax.errors import UserError
from tests.stress.fuzz.inputs import MUTATIONS, VALUE_MUTATIONS, change_value, mutate, pick, zip_of
from tests.stress.fuzz.outcome import Outcome, refusal
from tfds_builders.coco_ab import example as coco_example
from tfds_builders.coco_ab.join import Join, Joined, Listed
from tfds_builders.imagenet_ab import example as imagenet_example

_IMAGENET = imagenet_example.features(tfds.features.ClassLabel(names=['cat']))
_COCO = coco_example.features()


def make_xml(rng, corpus):
  changes = MUTATIONS if rng.random() < 0.6 else VALUE_MUTATIONS
  return {'record.xml': mutate(rng, pick(rng, corpus.xmls), corpus.xmls, changes)}


def check_xml(files, folder):
  """Reads one XML and encodes it as the builder does; counts rows with defusedxml."""
  del folder
  outcome = Outcome(records_in=1)
  data = files['record.xml']
  try:
    record = imagenet_ab.parse_xml(data)
  except BadRecord as error:
    outcome.skip(error)
    return outcome
  check_imagenet_record(record)
  # Without the declaration of an encoding, which our reader ignores but defusedxml does not.
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
  """Encodes a record as the builder does: whatever the reader accepts must be storable."""
  boxes, left_out = imagenet_example.encode_boxes(record, (8, 12))
  assert len(boxes['bbox']) + left_out == len(record.boxes)
  item = imagenet_example.encode(b'', 'a.jpg', 0, (8, 12), record, boxes)
  for points in (item['clicks'], item['trace']):
    xy = np.stack([points['x'], points['y']])
    assert np.isfinite(xy).all() and (np.abs(xy) <= 1000).all(), 'an absurd coordinate'
    assert (points['block'] < len(record.blocks)).all()
  _encode(_IMAGENET, item)


def _encode(features, item):
  """Encodes an example as TFDS does for the builder."""
  features.serialize_example(features.encode_example(item))


def make_coco_records(rng, corpus):
  """A few records, one with a changed JSON value, or the whole text with changed bytes."""
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
  return {coco_ab.FILE_NAME: whole}


def check_coco_records(files, folder):
  """Runs reader, join, replay and encoding; counts items with json.loads."""
  path = folder / coco_ab.FILE_NAME
  path.write_bytes(files[coco_ab.FILE_NAME])
  outcome = Outcome()
  join = Join()
  try:
    results = list(coco_ab.read_records(path))
  except UserError as error:
    return refusal(error)
  good = [record for record in results if isinstance(record, coco_ab.CocoRecord)]
  for _ in join.add_records(good):
    outcome.skip('duplicate record')
  for record in results:
    if isinstance(record, coco_ab.CorruptRecord):
      outcome.skip(record.reason)
  assert [record.number for record in results] == list(range(len(results)))
  outcome.records_in = len(json.loads(path.read_text(errors='replace'), parse_int=str))
  outcome.records_out = join.unused()[1]
  for image_id in {record.image_id for record in good}:
    _check_coco_example(join.take(image_id)[1], [])
  return outcome


def _check_coco_example(record, instances):
  """Encodes an example as the builder does."""
  listed = Listed(image_id=1, width=12, height=8)
  joined = Joined('train2014.zip: a.jpg', 'a.jpg', b'', listed, instances, record)
  item = coco_example.build_example(joined, (8, 12))
  for points in (item['trace'], item['icons']):
    xy = np.array([points['x'], points['y']], np.float64)
    assert np.isfinite(xy).all() and (np.abs(xy) <= 1000).all(), 'an absurd coordinate'
  assert len(item['icons']['label']) <= len(coco_ab.CLASS_NAMES)
  assert all(np.isfinite(np.float32(area)) for area in item['objects']['area'])
  _encode(_COCO, item)


MEMBER = 'annotations/instances_train2014.json'


def make_coco_instances(rng, corpus):
  text = json.dumps(corpus.instances).encode()
  if rng.random() < 0.6:
    text = json.dumps(change_value(rng, corpus.instances)).encode()
  else:
    text = mutate(rng, text, [text])
  return {'annotations.zip': zip_of([(MEMBER, text)])}


def check_coco_instances(files, folder):
  """Reads COCO's instances from their zip into the join; counts entries with json.loads."""
  path = folder / 'annotations.zip'
  path.write_bytes(files['annotations.zip'])
  text = zipfile.ZipFile(path).read(MEMBER).decode('utf-8-sig', errors='replace')
  counted = _count_entries(text)
  join = Join()
  try:
    join.add_instances(path, MEMBER)
  except UserError as error:
    return refusal(error)
  listed, _, instances = join.unused()
  assert listed, 'a file without images was taken for one of COCO'
  for image_id in set(re.findall(r'"image_id": (\d{1,15})\b', text)):
    _check_coco_example(None, join.take(int(image_id))[0])
  out = listed + instances
  return Outcome(records_in=out if counted is None else counted, records_out=out)


def _count_entries(text):
  """Returns the number of images and annotations in the JSON, or None if it is not valid JSON."""
  last = []  # the outermost object ends last; pairs, since keys may be repeated

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
