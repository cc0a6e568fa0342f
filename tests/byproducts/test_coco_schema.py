"""Records that msgspec decodes are those that the standard library would have given."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab, coco_schema, json_stream
from luab_jax.errors import UserError
from tests.byproducts.test_coco_ab import BROKEN, CORRUPT, RECORD, record, some_records
from tests.stress.fuzz import inputs, runner

GOOD = json.dumps(record(3))


def values(item):
  """All values with their types, -0.0 told from 0.0."""
  if isinstance(item, tuple):
    return type(item), [values(value) for value in item]
  if isinstance(item, np.ndarray):
    return item.dtype.str, item.shape, item.tobytes()
  return type(item), item


def outcome(path, decode, **options):
  """Everything that is read with a decoder, and how often it was of use."""
  used = []

  def counted(text):
    item = decode(text)
    used.append(item is not None)
    return item

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(coco_schema, 'decode', counted)
    try:
      return [values(r) for r in coco_ab.read_records(path, **options)], sum(used)
    except UserError as error:
      return str(error), sum(used)


DECODE = coco_schema.decode


def compare(path, content, **options):
  """Reads a file both ways; returns how many records were decoded by msgspec."""
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  quick, used = outcome(path, DECODE, **options)
  assert (quick, 0) == outcome(path, lambda text: None, **options)
  return used


VALUES = [
  '-0',
  '-0.0',
  '1E2',
  '1e400',
  '1.0',
  '01',
  '1.',
  '.5',
  'NaN',
  'Infinity',
  '9' * 5000,
  str(2**31),
  str(-(2**31) - 1),
  str(2**63),
  str(-(2**63) - 1),
  str(2**64),
  '1000',
  '1000.1',
  '0.1000000000000000055511151231257827',
  '4.9e-324',
  'true',
  'null',
  '"1"',
  '"',
  '[]',
  '{}',
  '"\\ud800"',
  '"\\ufffd"',
  '"\ufffd"',
  '"é"',
  '"\x01"',
  '"a\tb"',
  '"\\/"',
  '""',
  '',
]


@pytest.mark.parametrize('value', VALUES)
def test_any_value_in_any_place(tmp_path, value):
  places = [
    '451',
    '"imageWidth": 451',
    '8260000000',
    '"cup"',
    '"Food"',
    '"add"',
    '0.5',
    '60',
    '6',
    'true',
    '"00AA3B5E80"',
    '[{"x": 0.5',
    '{"x": 0.1, "y": -0.2}',
    '"timeAt"',
    'null',
  ]
  texts = [GOOD.replace(place, value, 1) for place in places]
  for text in [*texts, ', '.join([GOOD, texts[0], GOOD])]:
    compare(tmp_path / 'f.json', f'[{GOOD}, {text}, {GOOD}]')


ODD = {
  'released': (f'[{GOOD}, {GOOD}, {GOOD}]', 2),
  'indented': (json.dumps([RECORD] * 3, indent=2), 2),
  'no commas': (f'[{GOOD} {GOOD}{GOOD}]', 2),
  'many commas': (f'[,, ,{GOOD},\n,{GOOD},,]', 1),
  'other values between': (f'[{GOOD}, 5, null, {GOOD}, [], "a", {GOOD}, {{}}]', 0),
  'a bracket between': (f'[{GOOD}] , {GOOD}]', 0),
  'a list in the list': (f'[{GOOD}, [{GOOD}, {GOOD}], {GOOD}]', 0),
  'a record in a record': (f'[{GOOD[:-1]}, "new": {GOOD}}}, {GOOD}, {GOOD}]', 1),
  'a start in a text': (f'[{GOOD.replace("ffff", json.dumps(GOOD)[1:-1], 1)}, {GOOD}]', 0),
  'unknown keys': ('[' + ', '.join([json.dumps(record(new=[1]))] * 3) + ']', 0),
  'a key twice': (f'[{GOOD[:-1]}, "page_id": 7}}, {GOOD[:-1]}, "page_id": "x"}}, {GOOD}]', 1),
  'a key twice, wrong first': (f'[{{"page_id": "x", {GOOD[1:]}, {GOOD}]', 0),
  'deep': (f'[{GOOD[:-1]}, "new": {"[" * 990 + "]" * 990}}}, {GOOD}]', 0),
  'too deep': (f'[{GOOD[:-1]}, "new": {"[" * 5000 + "]" * 5000}}}, {GOOD}]', 0),
  'a vertical tab': (f'[{GOOD}\v, {GOOD}, {GOOD}]', 1),
  'a byte that is no UTF-8': (
    f'[{GOOD}, {GOOD}, {GOOD}]'.encode().replace(b'cup', b'c\xffp', 1),
    1,
  ),
}


@pytest.mark.parametrize('case', ODD)
def test_odd_files(tmp_path, case):
  content, decoded = ODD[case]
  assert compare(tmp_path / 'f.json', content) == decoded
  for chunk_bytes in (1, 50, 1000):
    compare(tmp_path / 'f.json', content, chunk_bytes=chunk_bytes)


@pytest.mark.parametrize('case', [*CORRUPT, *BROKEN])
def test_bad_records(tmp_path, case):
  bad = BROKEN[case] if case in BROKEN else json.dumps(CORRUPT[case])
  compare(tmp_path / 'f.json', f'[{GOOD}, {bad}, {bad}, {GOOD}, {bad}]')


@settings(max_examples=60, deadline=None)
@given(items=some_records, chunk_bytes=st.integers(1, 5000))
def test_any_records(tmp_path_factory, items, chunk_bytes):
  text = json.dumps(items, ensure_ascii=False).encode('utf-8', 'surrogatepass')
  compare(tmp_path_factory.mktemp('any') / 'f.json', text, chunk_bytes=chunk_bytes)


def test_damaged_files(tmp_path):
  corpus = inputs.Corpus(tmp_path)
  used = 0
  for number in range(400):
    files = runner.make_input('COCO-AB records', number, 11, corpus)
    used += compare(
      tmp_path / 'f.json', files[coco_ab.FILE_NAME], chunk_bytes=int(files['chunk_bytes'])
    )
  assert used > 150


def test_the_mini_release_is_all_decoded(shared):
  path = shared / 'mini_release/coco_ab/coco_ab_v1_0.json'
  records, used = outcome(path, DECODE)
  assert used == len(records) - 1  # the last one has no next one behind it
  assert records == outcome(path, lambda text: None)[0]


@pytest.mark.parametrize(
  'item', ['{"image_id":', '{"image_id": 5, "x": [', '{"image_id": 5, "x": "']
)
def test_nesting_without_end_is_one_error_soon(tmp_path, item):
  """Every start was tried to a depth of a thousand: half an hour for 100 MB."""
  path = tmp_path / 'f.json'
  path.write_text('[' + item * 20_000)
  with pytest.raises(
    UserError, match=f'more than {json_stream.MAX_BROKEN} items cannot be decoded|truncated'
  ):
    list(coco_ab.read_records(path))


def test_a_list_of_something_else_is_one_error(tmp_path, monkeypatch):
  monkeypatch.setattr(coco_ab, 'MAX_CORRUPT', 100)
  path = tmp_path / 'f.json'
  path.write_text('[' + '5, ' * 100 + GOOD + ']')
  assert len(list(coco_ab.read_records(path))) == 101
  path.write_text('[' + '5, ' * 101 + GOOD + ']')
  with pytest.raises(UserError, match='more than 100 records .* record 100 .*: int where an'):
    list(coco_ab.read_records(path))
