"""Tables of clicks as spreadsheets and scripts write them: the right numbers, or a reason."""

import codecs

import pytest

from luab_jax.errors import UserError
from luab_jax.tools.own_data import point_files, table
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.problems import Problems, pluralize


def _read(tmp_path, text):
  path = tmp_path / 'clicks.csv'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return table.read(path, ['file', 'x', 'y'], 'time')


def _points(tmp_path, text, what='click'):
  """({image: [(x, y)] in order of time}, lines about problems) for images cat/0.jpg to 3.jpg."""
  folder = tmp_path / 'train'
  names = [f'cat/{number}.jpg' for number in range(4)]
  index = ImageIndex([ImageFile(folder / name, folder, name, 'cat', 'train') for name in names])
  path = tmp_path / 'clicks.csv'
  path.write_text(text)
  with open(tmp_path / 'problems.csv', 'w') as file:
    problems = Problems(file)
    found, _ = point_files.read(path, index, 'pixels', problems, what=what)
  clicks = {image.name: [(p.x, p.y) for p in kept] for image, kept in found.items()}
  return clicks, problems.format(tmp_path)


@pytest.mark.parametrize(
  'text',
  [
    'file,x,y\ncat/0.jpg,10.5,20.25\n',
    'file;x;y\ncat/0.jpg;10,5;20,25\n',
    'file\tx\ty\r\ncat/0.jpg\t10,5\t20,25\r\n',
    'file,x,y\ncat/0.jpg,"10,5","20,25"\n',
    'x, y, file\n10.5, 20.25, "cat/0.jpg"\n',
    ' x , y , file \n 10.5 , 20.25 , cat/0.jpg \n , , \n',
    'sep=;\nfile;x;y\ncat/0.jpg;10,5;20,25\n',
    'file,x,y,time,\ncat/0.jpg,10.5,20.25,,\n',
    ',file,x,y\n0,cat/0.jpg,10.5,20.25\n',
  ],
)
def test_numbers_whose_meaning_is_certain(text, tmp_path):
  clicks, problems = _points(tmp_path, text)
  assert clicks == {'0.jpg': [(10.5, 20.25)]} and problems[-1] == 'No problems found.'
  utf16 = codecs.BOM_UTF16_LE + text.encode('utf-16-le')
  assert [row.number('x') for row in _read(tmp_path, utf16)] == [10.5]


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    # Could be 10.5 and 20.25, but also 10 and 5.
    ('file,x,y\ncat/0.jpg,10,5,20,25\n', 'clicks.csv:2: 5 cells below 3 columns'),
    ('file,x,y\n\ncat/0.jpg,7\n', 'clicks.csv:3: y is empty'),
    ('file;x;y\ncat/0.jpg;1,234;5,678\n', "x is '1,234', not a number"),
    ('file;x;y\ncat/0.jpg;ten;5\ncat/1.jpg;5;5,5,\n', "clicks.csv:2: x is 'ten', not a number"),
    ('file,x,y,time\ncat/0.jpg,1,2,3.4.2024\n', "time is '3.4.2024', not a number or an ISO 8601"),
    ('file,x,y,time\ncat/0.jpg,inf,2,3\n', "x is 'inf', not a number"),
    ('file,x,y\ncow/0.jpg,1,2\n', "'cow/0.jpg': no such image. The file column must hold"),
  ],
)
def test_the_error_holds_the_first_reason(text, reason, tmp_path):
  with pytest.raises(UserError, match=f'none of its rows gives a point.*{reason}') as error:
    _points(tmp_path, text)
  assert '\n' not in str(error.value)


def test_a_row_that_is_uncertain_is_named_and_the_others_are_read(tmp_path):
  text = 'file;x;y\ncat/0.jpg;1.234,5;2\ncat/1.jpg;10,5;2\n'
  clicks, problems = _points(tmp_path, text)
  assert clicks == {'1.jpg': [(10.5, 2)]}
  assert any(line.endswith(":2: x is '1.234,5', not a number") for line in problems)
  text = 'file;x;y\ncat/0.jpg;10.5;2\ncat/1.jpg;10,5;2\ncat/2.jpg;1;2;3\ncat/3.jpg;1;2;\n'
  clicks, problems = _points(tmp_path, text)
  assert clicks == {'0.jpg': [(10.5, 2)], '3.jpg': [(1, 2)]}
  assert [line.split('clicks.csv')[1] for line in problems if 'clicks.csv' in line] == [
    ":3: x is '10,5', not a number",
    ':4: 4 cells below 3 columns: a comma inside a cell needs quotes',
  ]


@pytest.mark.parametrize(
  ('times', 'milliseconds'),
  [
    (['1640942072804', '1640942072805'], [1640942072804, 1640942072805]),
    (['1640942072.804', '1640942072.9'], [1640942072804, 1640942072900]),
    (['1640942072,804', '1640942072,9'], [1640942072804, 1640942072900]),
    (['1640942072804500', '1640942072900000'], [1640942072804.5, 1640942072900]),
    (['1640942072804000000', '1640942072900000000'], [1640942072804, 1640942072900]),
    (['2021-12-31T09:14:32.804Z', '2021-12-31 10:14:32.9+01:00'], [1640942072804, 1640942072900]),
    (['2021-12-31T09:14:32.804', '2021-12-31 09:14:32'], [1640942072804, 1640942072000]),
    (['1,6409420728E+12', '1,6409420729E+12'], [1640942072800, 1640942072900]),
    (['0.25', '1200.75'], [0.25, 1200.75]),  # ms since the page was opened, as in browsers
    (['', ''], [0, 1]),  # the order of the rows
  ],
)
def test_times(times, milliseconds, tmp_path):
  rows = ''.join(f'\ncat/0.jpg;1;2;{time}' for time in times)
  found = table.parse_times(_read(tmp_path, f'file;x;y;time{rows}'))
  assert found == pytest.approx(milliseconds, abs=1e-2, rel=0)


def test_fractions_of_a_time_keep_the_clicks_in_order(tmp_path):
  rows = [f'cat/0.jpg,{x},1,{time}\n' for x, time in ((1, 7.4), (2, 7.3), (3, 6.9))]
  clicks, _ = _points(tmp_path, 'file,x,y,time\n' + ''.join(rows))
  assert clicks == {'0.jpg': [(3, 1), (2, 1), (1, 1)]}


def test_one_and_many():
  assert [pluralize(n, 'click') for n in (0, 1, 2)] == ['clicks', 'click', 'clicks']
  assert pluralize(2, 'class') == 'classes'
