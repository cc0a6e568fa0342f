"""Writers of ImageNet-AB and COCO-AB records: the readers return every value that was written."""

import json
import string

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab, coco_ab_writer, imagenet_ab, imagenet_ab_writer
from luab_jax.byproducts.imagenet_ab_writer import Showing

WORD = st.text(string.ascii_letters + 'é<&"', max_size=8)
MS = st.integers(0, 2**45)
FRACTION = st.floats(-2, 3, allow_nan=False)
PIXELS = st.integers(0, 5000) | st.floats(0, 5000) | st.just(np.nan)
POINTS = st.lists(st.tuples(MS, FRACTION, FRACTION), max_size=4)
BLOCKS = st.builds(
  imagenet_ab.Block,
  assignment_id=WORD,
  hit_id=WORD,
  worker_id=WORD,
  selected=st.none() | st.booleans(),
  selected_count=st.integers(0, 3) | st.just(np.nan),
  estimate_time_ms=st.none() | MS,
  **dict.fromkeys(imagenet_ab.Block._fields[6:], PIXELS),
)
SHOWINGS = st.builds(
  Showing,
  BLOCKS,
  POINTS,
  POINTS,
  st.lists(st.tuples(MS, st.sampled_from(['enter', 'leave'])), max_size=3),
)
BOXES = st.builds(
  imagenet_ab.Box,
  WORD,
  *[st.integers(0, 5000)] * 4,
  st.sampled_from([-1, 0, 1]),
  st.sampled_from([-1, 0, 1]),
)


@given(st.lists(SHOWINGS, max_size=3), st.lists(BOXES, max_size=2), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_records_of_imagenet_ab_are_read_back(showings, boxes, has_header, indent):
  record = imagenet_ab_writer.to_record(showings)
  if has_header:
    record = record._replace(boxes=boxes, size=(640, 480))
  xml = imagenet_ab_writer.to_xml(record, folder='n01', stem='n01_1', database='own', indent=indent)
  found = imagenet_ab.parse_xml(xml)
  np.testing.assert_equal(found, record)
  assert [c.dtype for c in (*found.clicks, *found.trace, *found.hovers[1:])] == [
    c.dtype for c in (*record.clicks, *record.trace, *record.hovers[1:])
  ]


def test_a_record_of_the_release_is_written_as_it_was(shared):
  """Byte by byte, except for white space and the header, only part of which a Record keeps."""
  for name in ('n02490219_6469', 'n02490219_5174'):
    data = (shared / 'records' / f'{name}.xml').read_bytes()
    record = imagenet_ab.parse_xml(data)._replace(size=None, boxes=[])
    written = imagenet_ab_writer.to_xml(record, indent=False)
    start = data.index(b'<metadata>')
    ours, theirs = (
      b''.join(part.strip() for part in text[text.index(b'<metadata>') :].splitlines())
      for text in (written.replace(b' />', b'/>'), data[start:])
    )
    assert ours == theirs


ACTIONS = st.lists(
  st.builds(
    coco_ab_writer.Action,
    st.sampled_from(coco_ab.ACTION_NAMES),
    WORD,
    MS,
    *[st.none() | st.tuples(FRACTION, FRACTION)] * 2,
  ),
  max_size=3,
)
VISITS = st.lists(st.builds(coco_ab_writer.Visit, st.integers(0, 10), WORD, MS, st.booleans()))
SIZE = st.integers(0, 640)


@st.composite
def coco_records(draw):
  trace = draw(POINTS)
  return coco_ab.CocoRecord(
    number=0,
    image_id=draw(st.integers(0, 2**40)),
    shown_width=draw(SIZE),
    shown_height=draw(SIZE),
    original_width=draw(SIZE),
    original_height=draw(SIZE),
    time_spent_ms=draw(MS),
    hit_id=draw(WORD),
    worker_id=draw(WORD),
    page_id=draw(st.integers(-1, 19)),
    actions=coco_ab_writer.to_actions(draw(ACTIONS)),
    categories=coco_ab_writer.to_categories(draw(VISITS)),
    trace_xy=np.array([(x, y) for _, x, y in trace], np.float64).reshape(-1, 2),
    trace_time_ms=np.array([time for time, _, _ in trace], np.int64),
  )


@given(st.lists(coco_records(), max_size=3))
@settings(max_examples=60, deadline=None)
def test_records_of_coco_ab_are_read_back(tmp_path_factory, records):
  path = tmp_path_factory.mktemp('coco') / coco_ab.FILE_NAME
  path.write_bytes(coco_ab_writer.to_json(records))
  found = list(coco_ab.read_records(path))
  np.testing.assert_equal(found, [r._replace(number=n) for n, r in enumerate(records)])


def test_records_of_the_release_are_written_as_they_were(shared):
  path = shared / 'mini_release' / 'coco_ab' / coco_ab.FILE_NAME
  records = list(coco_ab.read_records(path))
  ours, theirs = json.loads(coco_ab_writer.to_json(records)), json.loads(path.read_bytes())
  assert ours == theirs and [list(record) for record in ours] == [list(r) for r in theirs]
