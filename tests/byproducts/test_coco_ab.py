"""The COCO-AB reader: real records, damage of every kind, any chunk size; replay of icons."""

import contextlib
import copy
import hashlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import coco_ab, json_stream
from luab_jax.byproducts.archives import reader
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


def assert_same(ours, theirs):
  """Compares two records field by field, arrays with their dtypes and NaN equal to NaN."""
  assert type(ours) is type(theirs)
  for name in ours._fields:
    a, b = getattr(ours, name), getattr(theirs, name)
    if hasattr(a, '_fields'):
      assert_same(a, b)
    elif isinstance(a, np.ndarray):
      np.testing.assert_array_equal(a, b, err_msg=name, strict=True)
    else:
      assert a == b, name


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
  with instances_stream(shared) as stream:
    categories = [item for key, item in stream.member_items() if key == 'categories']
  names = [c['name'] for c in sorted(categories, key=lambda c: c['id'])]
  assert tuple(names) == coco_ab.CLASS_NAMES


@contextlib.contextmanager
def instances_stream(shared):
  path = shared / 'mini_release/coco_ab/annotations_trainval2014.zip'
  with reader.open_zip_member(path, 'annotations/instances_train2014.json') as file:
    yield json_stream.JsonStream(file, str(path), 'there')


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
  'lone surrogate': record(worker_id='\ud800'),
  'list is an object': record(mouseTracking={}),
  'list of numbers': record(actionHistories=[1]),
  'no y': record(mouseTracking=[{'x': 1, 'timeAt': 1}]),
  'no time': record(mouseTracking=[{'x': 1, 'y': 1}]),
  'time is a fraction': record(mouseTracking=[{'x': 1, 'y': 1, 'timeAt': 1.5}]),
  'time is huge': record(mouseTracking=[{'x': 1, 'y': 1, 'timeAt': 2**63}]),
  'x is text': record(mouseTracking=[{'x': '0.5', 'y': 1, 'timeAt': 1}]),
  'x is null': record(mouseTracking=[{'x': None, 'y': 1, 'timeAt': 1}]),
  'x is NaN': record(mouseTracking=[{'x': np.nan, 'y': 1, 'timeAt': 1}]),
  'x is Infinity': record(mouseTracking=[{'x': 1, 'y': np.inf, 'timeAt': 1}]),
  'x is an enormous integer': record(mouseTracking=[{'x': 10**400, 'y': 1, 'timeAt': 1}]),
  'NaN in an action': record(actionHistories=[
    {'actionType': 'add', 'iconType': 'cup', 'pointTo': point(np.nan, 0), 'timeAt': 1}]),
  'unknown action': record(actionHistories=[
    {'actionType': 'drop', 'iconType': 'cup', 'timeAt': 1}]),
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


TEXT = json.dumps(record())
BROKEN = {
  'a value is missing': TEXT.replace('"imageWidth": 451', '"imageWidth": '),
  'the closing brackets are missing': TEXT[: TEXT.index('}, {"timeAt": 76')],
  'the closing brace is missing': TEXT[:-1],
  'a quote is missing': TEXT.replace('"worker_id"', 'worker_id"'),
  'too deep': TEXT.replace('[{"x"', '[' * 100_000 + '{"x"'),
  'too many digits': TEXT.replace('451', '4' * 5000),
}  # fmt: skip


@pytest.mark.parametrize('chunk_bytes', [64, 1 << 20])
@pytest.mark.parametrize('kind', BROKEN)
def test_a_record_that_is_no_json_costs_only_itself(read, kind, chunk_bytes):
  text = f'[{json.dumps(record(1))}, {BROKEN[kind]}, {json.dumps(record(2))}]'
  before, corrupt, after = read(text, chunk_bytes=chunk_bytes)
  assert isinstance(corrupt, coco_ab.CorruptRecord)
  assert (before.image_id, corrupt.image_id, after.image_id) == (1, 7, 2)
  assert (corrupt.number, after.number) == (1, 2)


def test_a_broken_last_record_is_not_taken_for_truncation(read):
  good, corrupt = read(f'[{json.dumps(record(1))}, {BROKEN["a value is missing"]}]')
  assert good.image_id == 1 and corrupt.image_id == 7


def test_a_damaged_byte_costs_its_record(read):
  content = json.dumps([record(1), record(2), record(3)]).encode()
  start = content.index(b'00AA3B5E80', content.index(b'"image_id": 2'))
  good, corrupt, after = read(content[:start] + b'\xff' + content[start + 1 :])
  assert (good.image_id, corrupt.image_id, after.image_id) == (1, 2, 3)
  assert 'damaged text' in corrupt.reason


def test_a_lost_bracket_cannot_swallow_the_file(read, monkeypatch):
  """Without a limit the open list would take all later records for its items, in memory."""
  monkeypatch.setattr(json_stream, 'MAX_ITEM_CHARS', 3 * len(TEXT))
  records = [json.dumps(record(i)) for i in range(1, 50)]
  opened = BROKEN['the closing brackets are missing']
  for chunk_bytes in (100, 1 << 20):
    corrupt, *rest = read(f'[{opened}, {", ".join(records)}]', chunk_bytes=chunk_bytes)
    assert isinstance(corrupt, coco_ab.CorruptRecord)
    assert [r.image_id for r in rest] == list(range(1, 50))


json_values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
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
@example(items=[0.5, 12, 1e-5, 1e300], chunk_bytes=1, ascii_only=True, indent=None)
@given(
  items=some_records,
  chunk_bytes=st.integers(1, 700),
  ascii_only=st.booleans(),
  indent=st.sampled_from([None, 1]),
)
def test_any_chunk_size_gives_the_same_records(
  tmp_path_factory, items, chunk_bytes, ascii_only, indent
):
  path = tmp_path_factory.mktemp('chunks') / 'coco_ab_v1_0.json'
  text = json.dumps(items, ensure_ascii=ascii_only, indent=indent)
  path.write_bytes(text.encode('utf-8', 'surrogatepass'))
  whole = list(coco_ab.read_records(path, chunk_bytes=1 << 20))
  pieces = list(coco_ab.read_records(path, chunk_bytes=chunk_bytes))
  assert len(whole) == len(items)
  for ours, theirs, item in zip(pieces, whole, items, strict=True):
    assert_same(ours, theirs)
    if isinstance(ours, coco_ab.CocoRecord):
      assert ours.image_id == item['image_id']
      np.testing.assert_array_equal(
        ours.trace_time_ms, [p['timeAt'] for p in item.get('mouseTracking') or []]
      )


@settings(max_examples=100, deadline=None)
@given(data=st.data(), chunk_bytes=st.integers(1, 700))
def test_damage_anywhere_is_read_alike_whatever_the_chunk_size(tmp_path_factory, data, chunk_bytes):
  text = json.dumps([record(i) for i in range(1, 5)])
  start = data.draw(st.integers(0, len(text)))
  end = start + data.draw(st.integers(0, 40))
  put = data.draw(st.text('[]{}",:\\x01e.-', max_size=4))
  path = tmp_path_factory.mktemp('damage') / 'coco_ab_v1_0.json'
  path.write_text(text[:start] + put + text[end:])

  def outcome(chunk_bytes):
    try:
      return [
        (type(r), r.number, r.image_id) for r in coco_ab.read_records(path, chunk_bytes=chunk_bytes)
      ]
    except UserError as error:
      return str(error).partition('(')[0]

  whole = outcome(1 << 20)
  assert outcome(chunk_bytes) == whole
  if isinstance(whole, list):  # records that the damage did not touch
    size = len(text) // 4
    untouched = {i + 1 for i in range(4) if end < i * size - 4 or start > (i + 1) * size + 4}
    assert untouched <= {i for kind, _, i in whole if kind is coco_ab.CocoRecord}


@pytest.mark.parametrize('indent', [None, 1])
def test_every_truncation_is_one_clear_error(read, indent):
  text = json.dumps([{'image_id': 1}, record(2, actionHistories=[])], indent=indent)
  for length in range(len(text)):
    with pytest.raises(UserError) as error:
      read(text[:length], chunk_bytes=100)
    assert 'coco_ab_v1_0.json' in str(error.value) and '\n' not in str(error.value)
    assert coco_ab.URL in str(error.value)


@pytest.mark.parametrize('text', ['{}', 'hello', '<xml/>', '[] []', '[{"image_id": 1}] x', '5'])
def test_other_files_are_refused(read, text):
  with pytest.raises(UserError, match='get it again from https://'):
    read(text)


def test_a_missing_file_says_where_to_get_it(tmp_path):
  with pytest.raises(UserError, match='get coco_ab_v1_0.json from https://huggingface.co'):
    list(coco_ab.read_records(tmp_path / 'coco_ab_v1_0.json'))


def test_an_empty_list_a_byte_order_mark_and_white_space(read):
  assert read('[]') == [] and read('\n [ \t] \r\n') == []
  (got,) = read(b'\xef\xbb\xbf' + json.dumps([record(4)]).encode())
  assert got.image_id == 4


def test_sha256_covers_every_byte(read):
  text = json.dumps([record(1)]) + '\n'
  digest = hashlib.sha256(text.encode()).hexdigest()
  assert len(read(text, sha256=digest)) == 1
  with pytest.raises(UserError, match='sha256'):
    read(text + '\n', sha256=digest)


def test_progress_adds_up_to_the_file_size(read):
  seen = []
  text = json.dumps([record(i) for i in range(20)])
  read(text, progress=seen.append, chunk_bytes=1000)
  assert sum(seen) == len(text)


def test_memory_does_not_grow_with_the_file(tmp_path):
  peaks = []
  for count in (300, 1_200):
    path = tmp_path / f'{count}.json'
    path.write_text(json.dumps([RECORD] * count))
    tracemalloc.start()
    assert sum(1 for _ in coco_ab.read_records(path, chunk_bytes=1 << 14)) == count
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.2 * peaks[0] and peaks[1] < 2 << 20


points = st.none() | st.builds(point, st.floats(-1, 2), st.floats(-1, 2))
histories = st.lists(
  st.builds(
    lambda kind, icon, to: {
      'actionType': kind, 'iconType': icon, 'pointFrom': None, 'pointTo': to, 'timeAt': 1},
    st.sampled_from(coco_ab.ACTION_NAMES),
    st.sampled_from(['person', 'cup', 'toothbrush', 'Person', 'unicorn', '']),
    points,
  ),
  max_size=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(history=histories)
def test_replay_equals_a_naive_model(tmp_path_factory, history):
  path = tmp_path_factory.mktemp('replay') / 'coco_ab_v1_0.json'
  path.write_text(json.dumps([record(actionHistories=history)]))
  (got,) = coco_ab.read_records(path)
  icons, unknown = coco_ab.replay_icons(got.actions)
  # The model: an icon lies where the last action that says something about it has put it.
  expected = {}
  for name in coco_ab.CLASS_NAMES:
    telling = [
      a
      for a in history
      if a['iconType'] == name and (a['actionType'] == 'remove' or a['pointTo'] is not None)
    ]
    if telling and telling[-1]['actionType'] != 'remove':
      expected[name] = (telling[-1]['pointTo']['x'], telling[-1]['pointTo']['y'])
  assert icons == expected
  assert list(icons) == [name for name in coco_ab.CLASS_NAMES if name in expected]
  names = {a['iconType'] for a in history}
  assert unknown == sorted(names & {'Person', 'unicorn', ''})


def test_instances_are_streamed_and_damage_is_an_error(shared):
  with instances_stream(shared) as stream:
    keys = [key for key, _ in stream.member_items()]
    stream.end()
  assert (keys.count('images'), keys.count('categories')) == (50, 80)
  for text in ('{"a": [1, {"b"', '{"a": [1, x]}', '[1]', '{"a" 5}', ''):
    with pytest.raises(UserError, match='get it again from there'):
      list(json_stream.JsonStream(io.BytesIO(text.encode()), 'f', 'there').member_items())
