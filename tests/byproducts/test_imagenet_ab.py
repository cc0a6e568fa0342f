"""The ImageNet-AB reader: every value is read; unsafe and absurd files are refused."""

import math

import defusedxml.ElementTree
import numpy as np
import pytest
from defusedxml.common import DefusedXmlException
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import BadRecord
from luab_jax.byproducts.archives import reader
from luab_jax.byproducts.imagenet_ab import EMPTY, MAX_XML_BYTES, Block, Box, parse_xml


def _xml(body):
  return f'<annotation>{body}</annotation>'.encode()


def _metadata(body):
  return _xml(f'<metadata><worker_id>W</worker_id>{body}</metadata>')


def test_a_selected_image_with_voc_header(shared):
  record = parse_xml((shared / 'records' / 'n02490219_6469.xml').read_bytes())
  assert record.size == (500, 375)
  assert record.boxes == [Box('n02490219', 120, 40, 360, 330, truncated=0, difficult=0)]
  (block,) = record.blocks
  assert math.isnan(block.page_idx)
  assert block._replace(page_idx=0) == Block(
    assignment_id='36DSNE9QZFQKOCZGAHS6R63J6E1OJL',
    hit_id='3QMELQS6ZE39BAEVSNAKOD7WBS4R6Q',
    worker_id='47DBDD543E',
    selected=True,
    selected_count=1,
    estimate_time_ms=570,
    shown_x=857,
    shown_y=1976,
    shown_width=200,
    shown_height=150,
    original_width=500,
    original_height=375,
    page_idx=0,
  )
  np.testing.assert_array_equal(record.clicks.x, [0.65])
  np.testing.assert_array_equal(record.clicks.y, [0.6133333333333333])
  np.testing.assert_array_equal(record.clicks.time_ms, [1640942070514])
  np.testing.assert_array_equal(record.trace.x, [0.895, 0.635, 0.65])
  np.testing.assert_array_equal(record.trace.y, [0.49333333333333335, 0.64, 0.6133333333333333])
  np.testing.assert_array_equal(record.trace.time_ms - 1640942069944, [0, 156, 554])
  assert record.hovers.action == ['enter', 'leave']
  np.testing.assert_array_equal(record.hovers.time_ms - 1640942069944, [0, 658])
  for column in (record.clicks.block, record.trace.block, record.hovers.block):
    assert column.dtype == np.int32 and not column.any()
  assert record.trace.time_ms.dtype == np.int64


def test_an_unselected_image_without_header_and_with_empty_lists(shared):
  record = parse_xml((shared / 'records' / 'n02490219_5174.xml').read_bytes())
  (block,) = record.blocks
  assert block.selected is False  # bool('False') would be True
  assert block.selected_count == 0 and block.estimate_time_ms == 463
  assert math.isnan(block.shown_x) and math.isnan(block.original_width)
  assert not len(record.clicks.x) and not len(record.trace.x) and not record.hovers.action
  assert record.size is None and record.boxes == []


def test_all_xmls_of_the_mini_release_are_read(shared):
  path = shared / 'mini_release' / 'imagenet_ab' / 'imagenet_ab_v1_0.tar.gz'
  records = [parse_xml(data) for _, data in reader.iter_members(path)]
  assert len(records) == 276
  assert sum(any(block.selected for block in record.blocks) for record in records) > 200
  for record in records:
    for block in range(len(record.blocks)):
      for points in (record.clicks, record.trace):
        assert (np.diff(points.time_ms[points.block == block]) >= 0).all()


def test_points_refer_to_the_block_they_were_recorded_in():
  point = '<x>0.25</x><y>{}</y><time>{}</time>'
  record = parse_xml(
    _xml(
      ''.join(
        f'<metadata><worker_id>W{n}</worker_id><selected>{n != 1}</selected>'
        + f'<selectedRecord>{point.format(n / 4, n)}</selectedRecord>' * n
        + f'<mouseTracking>{point.format(n / 8, n)}</mouseTracking></metadata>'
        for n in range(3)
      )
      + '<metadata/>'
    )
  )  # an empty list of blocks, not a fourth block
  assert [block.worker_id for block in record.blocks] == ['W0', 'W1', 'W2']
  assert [block.selected for block in record.blocks] == [True, False, True]
  np.testing.assert_array_equal(record.clicks.block, [1, 2, 2])
  np.testing.assert_array_equal(record.clicks.y, [0.25, 0.5, 0.5])
  np.testing.assert_array_equal(record.trace.block, [0, 1, 2])


def test_missing_values_are_absent_and_unknown_tags_ignored():
  record = parse_xml(
    _metadata('<selected/><imageWidth></imageWidth><future><x>1</x></future>').replace(
      b'<annotation>', b'<annotation><owner>x</owner><object/><size/>'
    )
  )
  (block,) = record.blocks
  assert block.selected is None and block.estimate_time_ms is None and block.hit_id == ''
  assert all(math.isnan(value) for value in block if isinstance(value, float))
  assert record.boxes == [] and record.size is None
  assert str(parse_xml(_xml(''))) == str(EMPTY)


@pytest.mark.parametrize(
  ('text', 'value'), [('True', True), ('False', False), ('true', True), (' false ', False)]
)
def test_selected_is_compared_as_a_word(text, value):
  (block,) = parse_xml(_metadata(f'<selected>{text}</selected>')).blocks
  assert block.selected is value


GOOD = '<x>0.5</x><y>0.5</y><time>1640942070514</time>'
BAD = {
  'truncated': (_metadata('')[:-5], 'well-formed'),
  'empty file': (b'', 'well-formed'),
  'binary companion': (b'\x00\x05\x16\x07' * 20, 'NUL'),
  'not UTF-8': (_metadata('<hit_id>\xe9</hit_id>').decode().encode('latin-1'), 'well-formed'),
  'other root': (b'<html></html>', 'root'),
  'click without x': (
    _metadata('<selectedRecord><y>0</y><time>1</time></selectedRecord>'),
    'missing',
  ),
  'point without time': (_metadata('<mouseTracking><x>0</x><y>0</y></mouseTracking>'), 'time'),
  'hover without time': (
    _metadata('<hoveredRecord><action>enter</action></hoveredRecord>'),
    'time',
  ),
  'x is text': (
    _metadata(f'<mouseTracking>{GOOD.replace("0.5", "a")}</mouseTracking>'),
    'not a number',
  ),
  'x is NaN': (_metadata(f'<mouseTracking>{GOOD.replace("0.5", "nan")}</mouseTracking>'), 'finite'),
  'y is infinite': (
    _metadata(f'<selectedRecord>{GOOD.replace("0.5<", "inf<", 1)}</selectedRecord>'),
    'finite',
  ),
  'x is absurd': (
    _metadata(f'<selectedRecord>{GOOD.replace("0.5", "1e300")}</selectedRecord>'),
    'out of range',
  ),
  'time is absurd': (
    _metadata(f'<selectedRecord>{GOOD.replace("1640", "9" * 20)}</selectedRecord>'),
    'out of range',
  ),
  'time is endless': (
    _metadata(f'<selectedRecord>{GOOD.replace("1640", "9" * 9999)}</selectedRecord>'),
    'out of range',
  ),
  'width is infinite': (_metadata('<imageWidth>inf</imageWidth>'), 'finite'),
  'selected is a number': (_metadata('<selected>2</selected>'), 'neither True nor False'),
  'box without sides': (_xml('<object><name>n</name></object>'), 'bndbox'),
  'box is NaN': (
    _xml(
      '<object><bndbox><xmin>nan</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>'
    ),
    'finite',
  ),
  'too large': (_metadata(' ' * MAX_XML_BYTES), 'more than'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_records_are_described_in_one_line(case):
  data, reason = BAD[case]
  with pytest.raises(BadRecord, match=reason) as error:
    parse_xml(data)
  assert len(str(error.value)) < 200 and '\n' not in str(error.value)


_BOMB = (
  '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
  + ''.join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip('abcdefgh', 'bcdefghi', strict=True))
  + ']><annotation><metadata><hit_id>&i;</hit_id></metadata></annotation>'
)
ATTACKS = {
  'entity bomb': _BOMB.encode(),
  'entity bomb in UTF-16': _BOMB.encode('utf-16'),
  'entity bomb in UTF-16 big-endian': b'\xfe\xff' + _BOMB.encode('utf-16-be'),
  'entity bomb with a declared encoding': b'<?xml version="1.0" encoding="latin-1"?>'
  + _BOMB.encode(),
  'external entity': b'<!DOCTYPE annotation [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
  b'<annotation><metadata><hit_id>&e;</hit_id></metadata></annotation>',
  'external document type': b'<!DOCTYPE annotation SYSTEM "http://example.org/a.dtd"><annotation/>',
}


@pytest.mark.parametrize('case', ATTACKS)
def test_attacks_are_refused_as_defusedxml_refuses_them(case):
  with pytest.raises(BadRecord):
    parse_xml(ATTACKS[case])
  with pytest.raises((DefusedXmlException, defusedxml.ElementTree.ParseError)):
    defusedxml.ElementTree.fromstring(ATTACKS[case], forbid_dtd=True)


def test_a_declared_encoding_cannot_hide_a_document_type():
  """UTF-7 and EBCDIC spell `<!DOCTYPE` with other bytes; the reader refuses these encodings."""
  for encoding in ('utf-7', 'cp037', 'utf-32'):
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    with pytest.raises(BadRecord):
      parse_xml(declaration.encode() + _BOMB.encode(encoding))
    with pytest.raises(BadRecord):
      parse_xml((declaration + _BOMB).encode(encoding))


def test_deep_nesting_does_not_crash():
  depth = 100_000
  record = parse_xml(_metadata('<a>' * depth + '</a>' * depth))
  assert len(record.blocks) == 1


@given(st.binary(max_size=300), st.integers(0, 500))
@settings(max_examples=150, deadline=None)
def test_damaged_files_give_a_record_or_bad_record(noise, offset):
  intact = _metadata(f'<selectedRecord>{GOOD}</selectedRecord><estimateTime>5</estimateTime>')
  offset %= len(intact)
  try:
    record = parse_xml(intact[:offset] + noise + intact[offset + len(noise) :])
  except BadRecord:
    return
  assert np.isfinite(record.clicks.x).all() and np.isfinite(record.clicks.y).all()
