"""The COCO-AB reader: real records, bad records, damaged files."""

import copy
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab
from luab_jax.errors import UserError


def point(x, y):
  return {'x': x, 'y': y}


RECORD = {
  'image_id': 7, 'originalImageHeight': 428, 'originalImageWidth': 640, 'imageHeight': 450,
  'imageWidth': 451, 'timeSpent': 8_260_000_000, 'hit_id': 'f' * 32, 'page_id': 3,
  'worker_id': '00AA3B5E80',
  'actionHistories': [
    {'actionType': 'add', 'iconType': 'cup', 'pointFrom': None, 'pointTo': point(0.1, -0.2),
     'timeAt': 100},
    {'actionType': 'move', 'iconType': 'cup', 'pointFrom': point(0.1, -0.2),
     'pointTo': point(1, 0.4), 'timeAt': 200},
    {'actionType': 'remove', 'iconType': 'cup', 'pointFrom': point(1, 0.4), 'pointTo': None,
     'timeAt': 300}],
  'categoryHistories': [
    {'categoryIndex': 6, 'categoryName': 'Food', 'timeAt': 50, 'usingKeyboard': True}],
  'mouseTracking': [{'x': 0.5, 'y': 1.02, 'timeAt': 60}, {'timeAt': 76, 'y': 0, 'x': 1}],
}  # fmt: skip


def record(image_id=7, **changes):
  return {**copy.deepcopy(RECORD), 'image_id': image_id, **changes}


@pytest.fixture
def read(tmp_path):
  """Writes text or an object as a file and returns the list of what the reader yields."""

  def read_content(content, **options):
    path = tmp_path / 'coco_ab_v1_0.json'
    if not isinstance(content, bytes):
      content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return list(coco_ab.read_records(path, **options))

  return read_content


def test_every_field_of_a_record(read):
  (got,) = read([RECORD])
  assert (got.number, got.image_id, got.time_spent_ms) == (0, 7, 8_260_000_000)
  assert (got.shown_width, got.shown_height) == (451, 450)
  assert (got.original_width, got.original_height) == (640, 428)
  assert (got.hit_id, got.worker_id, got.page_id) == ('f' * 32, '00AA3B5E80', 3)
  nan = np.nan
  np.testing.assert_array_equal(got.actions.action, [0, 1, 2])
  assert got.actions.icon == ('cup', 'cup', 'cup')
  np.testing.assert_array_equal(got.actions.from_xy, [[nan, nan], [0.1, -0.2], [1, 0.4]])
  np.testing.assert_array_equal(got.actions.to_xy, [[0.1, -0.2], [1, 0.4], [nan, nan]])
  np.testing.assert_array_equal(got.actions.time_ms, [100, 200, 300])
  np.testing.assert_array_equal(got.categories.index, [6])
  assert got.categories.name == ('Food',)
  np.testing.assert_array_equal(got.categories.time_ms, [50])
  np.testing.assert_array_equal(got.categories.using_keyboard, [True])
  np.testing.assert_array_equal(got.trace_xy, [[0.5, 1.02], [1, 0]])
  np.testing.assert_array_equal(got.trace_time_ms, [60, 76])


def test_released_samples(shared):
  moved, removed, unloaded = coco_ab.read_records(shared / 'records/coco_ab_sample.json')
  icons, unknown = coco_ab.replay_icons(moved.actions)
  assert icons == {'cake': (0.7016666666666667, 0.5444444444444444)} and unknown == []
  assert len(moved.trace_xy) == 0 and moved.categories.name == ('Animal', 'Food')
  icons, _ = coco_ab.replay_icons(removed.actions)
  assert icons == {'pizza': (0.5839524517087668, 0.5888888888888889)}
  np.testing.assert_array_equal(removed.trace_time_ms, [15725, 17426])
  assert (unloaded.original_width, unloaded.shown_height) == (0, 0)
  icons, _ = coco_ab.replay_icons(unloaded.actions)
  assert icons == {'bowl': (0.31, 1.02)}  # kept as recorded, outside the image


def test_mini_release_equals_json_load(shared):
  path = shared / 'mini_release/coco_ab/coco_ab_v1_0.json'
  raw = json.loads(path.read_text())
  records = list(coco_ab.read_records(path))
  assert [r.image_id for r in records] == [r['image_id'] for r in raw]
  for ours, theirs in zip(records, raw, strict=True):
    trace = [[p['x'], p['y']] for p in theirs['mouseTracking']]
    np.testing.assert_array_equal(ours.trace_xy, np.reshape(trace, (-1, 2)))
    assert list(ours.actions.icon) == [a['iconType'] for a in theirs['actionHistories']]
    assert ours.categories.time_ms.tolist() == [c['timeAt'] for c in theirs['categoryHistories']]


def test_class_names_are_in_category_id_order(shared):
  path = shared / 'mini_release/coco_ab/annotations_trainval2014.zip'
  with zipfile.ZipFile(path) as archive:
    instances = json.loads(archive.read('annotations/instances_train2014.json'))
  names = [c['name'] for c in sorted(instances['categories'], key=lambda c: c['id'])]
  assert tuple(names) == coco_ab.CLASS_NAMES


def test_absent_fields_and_unknown_keys(read):
  bare, extra = read([{'image_id': 1}, record(2, newKey={'image_id': [None]}, mouseTracking=None)])
  assert (bare.hit_id, bare.page_id, bare.time_spent_ms, bare.shown_width) == ('', -1, 0, 0)
  assert bare.trace_xy.shape == bare.actions.to_xy.shape == (0, 2)
  assert bare.categories.index.shape == bare.actions.time_ms.shape == (0,)
  assert extra.image_id == 2 and len(extra.trace_xy) == 0


CORRUPT = {
  'number': 5,
  'null': None,
  'no image_id': {'worker_id': 'a'},
  'image_id is text': record('7'),
  'image_id is true': record(True),
  'size is a fraction': record(imageWidth=450.5),
  'size is huge': record(imageWidth=2**31),
  'id is a number': record(hit_id=5),
  'list is an object': record(mouseTracking={}),
  'list of numbers': record(actionHistories=[1]),
  'no y': record(mouseTracking=[{'x': 1, 'timeAt': 1}]),
  'no time': record(mouseTracking=[{'x': 1, 'y': 1}]),
  'time is a fraction': record(mouseTracking=[{'x': 1, 'y': 1, 'timeAt': 1.5}]),
  'time is huge': record(mouseTracking=[{'x': 1, 'y': 1, 'timeAt': 2**63}]),
  'x is text': record(mouseTracking=[{'x': '0.5', 'y': 1, 'timeAt': 1}]),
  'x is null': record(mouseTracking=[{'x': None, 'y': 1, 'timeAt': 1}]),
  'x is huge': record(mouseTracking=[{'x': 1e308, 'y': 1, 'timeAt': 1}]),
  'x is an enormous integer': record(mouseTracking=[{'x': 10**400, 'y': 1, 'timeAt': 1}]),
  'text in an action': record(actionHistories=[
    {'actionType': 'add', 'iconType': 'cup', 'pointTo': point('', 0), 'timeAt': 1}]),
  'unknown action': record(actionHistories=[
    {'actionType': 'drop\x1b[31m\n' + 'x' * 9999, 'iconType': 'cup', 'timeAt': 1}]),
  'no icon': record(actionHistories=[{'actionType': 'add', 'timeAt': 1}]),
  'point is a list': record(actionHistories=[
    {'actionType': 'add', 'iconType': 'cup', 'pointTo': [0, 1], 'timeAt': 1}]),
  'keyboard is a number': record(categoryHistories=[
    {'categoryIndex': 1, 'categoryName': 'Food', 'timeAt': 1, 'usingKeyboard': 1}]),
}  # fmt: skip


@pytest.mark.parametrize('kind', CORRUPT)
def test_corrupt_record_is_named_and_the_others_are_read(read, kind):
  bad = CORRUPT[kind]
  before, corrupt, after = read([record(1), bad, record(2)])
  assert isinstance(corrupt, coco_ab.CorruptRecord)
  assert (before.image_id, corrupt.number, after.image_id) == (1, 1, 2)
  has_id = isinstance(bad, dict) and type(bad.get('image_id')) is int
  assert corrupt.image_id == (7 if has_id else None)
  assert 'coco_ab_v1_0.json: record 1 (' in str(corrupt) and corrupt.reason
  assert ('image_id 7' in str(corrupt)) == has_id
  assert str(corrupt).isprintable() and len(str(corrupt)) < 500


def test_reasons_say_where(read):
  reasons = [
    item.reason
    for item in read(
      [
        record(imageWidth='451'),
        record(mouseTracking=[{'x': 1001, 'y': 1, 'timeAt': 1}]),
        record(image_id=None),
      ]
    )
  ]
  assert reasons == [
    'Expected `int | null`, got `str` - at `$.imageWidth`',
    'Expected `float` <= 1000.0 - at `$.mouseTracking[0].x`',
    'Expected `int`, got `null` - at `$.image_id`',
  ]


def test_a_damaged_byte_costs_its_record(read):
  content = json.dumps([record(1), record(2), record(3)]).encode()
  start = content.index(b'00AA3B5E80', content.index(b'"image_id": 2'))
  good, corrupt, after = read(content[:start] + b'\xff' + content[start + 1 :])
  assert (good.image_id, corrupt.image_id, after.image_id) == (1, 2, 3)
  assert 'invalid start byte' in corrupt.reason


TEXT = json.dumps(record())
BROKEN = {
  'a value is missing': TEXT.replace('"imageWidth": 451', '"imageWidth": '),
  'the closing brackets are missing': TEXT[: TEXT.index('}, {"timeAt": 76')],
  'the closing brace is missing': TEXT[:-1],
  'a quote is missing': TEXT.replace('"worker_id"', 'worker_id"'),
  'too deep': TEXT.replace('[{"x"', '[' * 100_000 + '{"x"'),
  'a coordinate is NaN': TEXT.replace('0.5', 'NaN'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BROKEN)
def test_a_file_that_is_not_json_is_one_line(read, kind):
  with pytest.raises(
    UserError, match=r'coco_ab_v1_0.json \([\d,]+ bytes\) is not a JSON list'
  ) as e:
    read(f'[{json.dumps(record(1))}, {BROKEN[kind]}, {json.dumps(record(2))}]')
  assert '\n' not in str(e.value) and coco_ab.URL in str(e.value)
  if kind == 'a value is missing':
    position = len(json.dumps(record(1))) + 3 + BROKEN[kind].index(': ,') + 2
    assert f'(byte {position})' in str(e.value)


json_values = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(st.characters(exclude_categories=['Cs']), max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
      st.sampled_from(['x', 'y', 'timeAt', 'image_id', 'a"b{', '[é']), inner, max_size=3
    )
  ),
  max_leaves=6,
)
some_records = st.lists(
  st.builds(
    lambda image_id, trace, extra: record(image_id, mouseTracking=trace, extra=extra),
    st.integers(0, 2**40),
    st.lists(
      st.fixed_dictionaries(
        {'x': st.floats(-2, 2), 'y': st.floats(-2, 2), 'timeAt': st.integers(0, 2**40)}
      ),
      max_size=4,
    ),
    json_values,
  )
  | json_values,
  max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(items=some_records, indent=st.sampled_from([None, 1]))
def test_every_record_is_read_or_named(tmp_path_factory, items, indent):
  path = tmp_path_factory.mktemp('records') / 'coco_ab_v1_0.json'
  path.write_text(json.dumps(items, ensure_ascii=False, indent=indent))
  records = list(coco_ab.read_records(path))
  assert [record.number for record in records] == list(range(len(items)))
  for ours, item in zip(records, items, strict=True):
    if isinstance(ours, coco_ab.CocoRecord):
      assert ours.image_id == item['image_id']
      np.testing.assert_array_equal(
        ours.trace_time_ms, [p['timeAt'] for p in item.get('mouseTracking') or []]
      )
    elif isinstance(item, dict) and 'extra' in item:
      raise AssertionError(f'a good record was refused: {ours}')


@pytest.mark.parametrize('indent', [None, 1])
def test_every_truncation_is_one_clear_error(read, indent):
  text = json.dumps([{'image_id': 1}, record(2, actionHistories=[])], indent=indent)
  for length in range(len(text)):
    with pytest.raises(UserError) as error:
      read(text[:length])
    assert 'coco_ab_v1_0.json' in str(error.value) and '\n' not in str(error.value)
    assert coco_ab.URL in str(error.value)


@pytest.mark.parametrize(
  'text', ['{}', 'hello', '<xml/>', '[] []', '[{"image_id": 1}] x', '5', '[1,,2]']
)
def test_other_files_are_refused(read, text):
  with pytest.raises(UserError, match='get it again from https://'):
    read(text)


def test_a_missing_file_says_where_to_get_it(tmp_path):
  with pytest.raises(UserError, match='get coco_ab_v1_0.json from https://huggingface.co'):
    list(coco_ab.read_records(tmp_path / 'coco_ab_v1_0.json'))


def test_an_empty_list_and_white_space(read):
  assert read('[]') == [] and read('\n [ \t] \r\n') == []


def test_progress_counts_the_bytes_of_the_records(read):
  seen = []
  text = json.dumps([record(i) for i in range(20)])
  read(text, progress=seen.append)
  assert len(seen) == 20 and sum(seen) == len(text) - len('[') - 19 * len(', ') - len(']')
