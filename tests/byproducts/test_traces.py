"""Traces lifted out of an XML before it is parsed: always what the parser alone would have read."""

import numpy as np
import pytest

from luab_jax.byproducts import BadRecord, imagenet_ab, traces
from tests.stress.fuzz import inputs, runner

POINT = '<mouseTracking><time>1</time><x>0.5</x><y>-0.25</y></mouseTracking>'
SPACED = POINT.replace('><', '>\n  <') + '\n'


def outcome(read):
  """All values of a record, or what is wrong with it."""
  try:
    record = read()
  except BadRecord as error:
    return str(error)
  # + 0: -0 is read as 0, here and there.
  columns = [*record.clicks, *record.trace, *record.hovers[1:]]
  return (
    str(record._replace(clicks=0, trace=0)),
    [(column.dtype.str, column.shape, (column + 0).tobytes()) for column in columns],
  )


def parsed(data):
  """As the reader does it when nothing is lifted."""
  return outcome(lambda: imagenet_ab._parse(data, []))


def in_block(text):
  return f'<annotation><metadata><hit_id>h</hit_id>{text}</metadata></annotation>'


ODD = {
  'released': in_block(SPACED * 3),
  'two traces': in_block(POINT * 2 + '<selected>True</selected>' + SPACED * 3),
  'two blocks': in_block(POINT * 2 + '</metadata><metadata>' + POINT),
  'a block of nothing else': f'<annotation><metadata>{POINT}</metadata></annotation>',
  'with a click': in_block(POINT + POINT.replace('mouseTracking', 'selectedRecord') + POINT),
  'an empty list': in_block('<mouseTracking/>' + POINT + '<mouseTracking></mouseTracking>'),
  'another order': in_block(
    POINT + POINT.replace('<time>1</time>', '').replace('</y>', '</y><time>1</time>') + POINT
  ),
  'in a comment': in_block(f'{POINT}<!-- {POINT} -->{POINT}'),
  'a comment of minuses': in_block(f'<!-- {POINT.replace("0.5", "--")} -->'),
  'a comment within': in_block(POINT.replace('<x>', '<!-- --><x>')),
  'in CDATA': in_block(f'<worker_id><![CDATA[{POINT}]]></worker_id>'),
  'in an instruction': in_block(f'<?a {POINT}?>{POINT}<?b?>'),
  'in an instruction before': f'<?a {POINT}?>' + in_block(POINT),
  'in the declaration': f'<?xml version="1.0" {POINT}?>' + in_block(POINT),
  'in an attribute': in_block(f'<a b="{POINT}"/>'),
  'in a tag': in_block(f'<a {POINT}>'),
  'in text': in_block(f'<worker_id>a{POINT}b</worker_id>'),
  'in a point': in_block(f'<mouseTracking>{POINT}<x>1</x></mouseTracking>'),
  'in a hover': in_block(f'<hoveredRecord>{POINT}<time>5</time></hoveredRecord>'),
  'in a box': f'<annotation><object>{POINT}</object></annotation>',
  'in the position': in_block(f'<imagePosition>{POINT}<x>1</x></imagePosition>'),
  'outside of blocks': f'<annotation>{POINT}<metadata/></annotation>',
  'the root': POINT,
  'behind the root': in_block('') + POINT,
  'before the root': POINT + in_block(''),
  'a namespace': in_block(POINT).replace('<annotation>', '<annotation xmlns="a">'),
  'a namespace of the block': in_block(POINT).replace('<metadata>', '<metadata xmlns="a">'),
  'a prefix': in_block(POINT.replace('mouseTracking', 'a:mouseTracking')),
  'the stand-in': in_block(f'{POINT}<{traces.TAG}>0</{traces.TAG}>'),
  'the stand-in in a comment': in_block(f'{POINT}<!--{traces.TAG}-->'),
  'the stand-in alone': in_block(f'<{traces.TAG}>7</{traces.TAG}>'),
  'the stand-in in characters': in_block(f'{POINT}&lt;{traces.TAG}&gt;0&lt;/{traces.TAG}&gt;'),
  'a vertical tab': in_block(POINT.replace('><', '>\v<')),
  'a form feed behind': in_block(POINT + '\f' + POINT),
  'a mark of byte order': '\ufeff' + in_block(POINT),
  'text between': in_block(POINT + 'é' + POINT + '&amp;' + POINT),
  'an unknown entity': in_block(POINT + '&a;'),
  'unclosed': in_block(POINT + '<a>'),
  'many': in_block(SPACED * 2000),
}
NUMBERS = [
  '01',
  '.5',
  '1.',
  '+1',
  '-0',
  '1e5',
  '1e400',
  '-1e400',
  '1e-400',
  '1.2.3',
  '--1',
  '-',
  'e',
  '9' * 32,
  '9' * 33,
  '1001',
  '1000.0000000000001',
  '0.1000000000000000055511151231257827',
  '4.9e-324',
  '2.2250738585072011e-308',
  '0.30000000000000004',
  '1_0',
  '٣',
  ' 1 ',
  '',
]


@pytest.mark.parametrize('case', ODD)
def test_odd_files_are_read_as_by_the_parser(case):
  data = ODD[case].encode()
  assert outcome(lambda: imagenet_ab.parse_xml(data)) == parsed(data)


@pytest.mark.parametrize('number', NUMBERS)
def test_odd_numbers_are_read_as_by_the_parser(number):
  for tag, usual in (('time', '1'), ('x', '0.5'), ('y', '-0.25')):
    row = POINT.replace(f'<{tag}>{usual}<', f'<{tag}>{number}<')
    assert number == usual or row != POINT
    data = in_block(SPACED + row + POINT).encode()
    assert outcome(lambda data=data: imagenet_ab.parse_xml(data)) == parsed(data)


def test_what_is_written_as_in_the_release_is_lifted():
  """Otherwise the above would compare the parser with itself."""
  for case in ('released', 'in text', 'in an instruction', 'many'):
    shorter, lifted = traces.lift(ODD[case].encode())
    assert lifted and b'mouseTracking' not in shorter
  assert [len(trace.x) for trace in traces.lift(ODD['two traces'].encode())[1]] == [2, 3]


def test_damaged_files_are_read_as_by_the_parser(tmp_path):
  corpus = inputs.Corpus(tmp_path)
  lifted = 0
  for number in range(600):
    data = runner.make_input('ImageNet-AB XML', number, 7, corpus)['record.xml']
    try:
      ours = outcome(lambda data=data: imagenet_ab.parse_xml(data))
    except (RecursionError, MemoryError) as error:
      pytest.fail(f'{number}: {error!r}')
    if len(data) <= imagenet_ab.MAX_XML_BYTES and 'are refused' not in ours:
      assert ours == parsed(data), number
    lifted += bool(traces.lift(data)[1])
  assert lifted > 200


def test_values_are_those_written():
  rng = np.random.default_rng(0)
  xs, ys = rng.random((2, 500)) * 3 - 1
  times = rng.integers(0, 2**50, 500)
  rows = ''.join(
    f'<mouseTracking><time>{t}</time><x>{x!r}</x><y>{y!r}</y></mouseTracking>'
    for t, x, y in zip(times.tolist(), xs.tolist(), ys.tolist(), strict=True)
  )
  trace = imagenet_ab.parse_xml(in_block(rows).encode()).trace
  np.testing.assert_array_equal(trace.x, xs)
  np.testing.assert_array_equal(trace.y, ys)
  np.testing.assert_array_equal(trace.time_ms, times)
