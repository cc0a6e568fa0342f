"""What is read from exports of labelling tools: which points, by whom, on which images."""

import json

import pytest

from luab_jax.errors import UserError
from luab_jax.tools.own_data import point_files
from luab_jax.tools.own_data.images import ImageFile, ImageIndex
from luab_jax.tools.own_data.points import ANNOTATED, Sitting
from luab_jax.tools.own_data.problems import Problems
from tests.labelling_exports import annotation, cvat_image, cvat_points, cvat_xml, keypoint, task
from tests.own_photos import read_counts

NAMES = ['cat/0.jpg', 'dog/1.jpg', 'dog/my photo #1 (50%).jpg', 'dog/a+b.jpg', 'cat/Čau é.png']


def _read(tmp_path, content):
  """({image name: its points in order of time}, {what was counted: count})."""
  folder = tmp_path / 'photos'
  index = ImageIndex([ImageFile(folder / n, folder, n, n[:3], 'train') for n in NAMES])
  path = tmp_path / 'export'
  if not isinstance(content, str | bytes):
    content = json.dumps(content)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  with open(tmp_path / 'problems.csv', 'w') as file:
    problems = Problems(file)
    found, units = point_files.read(path, index, 'pixels', problems, what='click')
  assert units == ANNOTATED
  counts = read_counts('\n'.join(problems.format(tmp_path)))
  return {image.relative_to(folder).as_posix(): kept for image, kept in found.items()}, counts


def _xy(points):
  return [(point.x, point.y) for point in points]


@pytest.mark.parametrize(
  ('address', 'name'),
  [
    ('cat/0.jpg', 'cat/0.jpg'),
    ('/data/local-files/?d=photos/cat/0.jpg', 'cat/0.jpg'),
    ('http://localhost:8080/data/local-files/?d=/mnt/photos/dog%5C1.jpg', 'dog/1.jpg'),
    ('/data/local-files/?d=photos/dog/my%20photo%20%231%20%2850%25%29.jpg', NAMES[2]),
    ('/data/local-files/?d=photos/dog/my+photo+%231+%2850%25%29.jpg', NAMES[2]),
    ('/data/local-files/?d=dog/a%2Bb.jpg', 'dog/a+b.jpg'),
    ('/data/local-files/?d=dog/a+b.jpg', 'dog/a+b.jpg'),
    (NAMES[2], NAMES[2]),
    ('/data/upload/1/deadbeef-1.jpg', 'dog/1.jpg'),
    ('upload/12/deadbeef-0.jpg', 'cat/0.jpg'),
    ('/data/upload/deadbeef-0.jpg', 'cat/0.jpg'),
    ('/data/upload/1/deadbeef-my_photo_1_50.jpg', NAMES[2]),  # as Django cleans names
    ('/data/upload/1/deadbeef-%C4%8Cau_%C3%A9.png', 'cat/Čau é.png'),
    ('https://example.com/photos/cat/0.jpg?X-Amz-Date=1&sig=a%2Fb', 'cat/0.jpg'),
    ('https://example.com/cat/%C4%8Cau%20%C3%A9.png', 'cat/Čau é.png'),
    ('s3://bucket/photos/dog/1.jpg', 'dog/1.jpg'),
    ('gs://bucket/dog/my photo #1 (50%).jpg', NAMES[2]),
    ('C:\\photos\\dog\\1.jpg', 'dog/1.jpg'),
  ],
)
def test_addresses_of_images(address, name, tmp_path):
  clicks, counts = _read(tmp_path, [task(1, address, annotation(keypoint(25, 50)))])
  assert {image: _xy(points) for image, points in clicks.items()} == {name: [(0.25, 0.5)]}
  assert counts['file of clicks, read as Label Studio JSON'] == 1


def test_the_prefix_belongs_to_a_name_only_where_tasks_were_uploaded(tmp_path):
  tasks = [
    task(n, a, annotation(keypoint(1, 1))) for n, a in enumerate(['0.jpg', 'deadbeef-1.jpg'])
  ]
  clicks, counts = _read(tmp_path, tasks)
  assert list(clicks) == ['cat/0.jpg'] and counts['click without a matching image, skipped'] == 1


def test_the_image_of_a_region_among_other_data(tmp_path):
  regions = [keypoint(1, 1, item_index=1), keypoint(2, 2, item_index=0)]
  several = task(1, None, annotation(*regions), data={'images': ['cat/0.jpg', 'dog/1.jpg']})
  thumbnail = {'text': 'a cat', 'thumb': 'dog/a+b.jpg', 'image': 'dog/1.jpg?v=1'}
  clicks, _ = _read(tmp_path, [several, task(2, None, annotation(keypoint(3, 3)), data=thumbnail)])
  assert _xy(clicks['cat/0.jpg']) == [(0.02, 0.02)]
  assert _xy(clicks['dog/1.jpg']) == [(0.01, 0.01), (0.03, 0.03)]


def test_annotators_times_and_what_is_not_counted(tmp_path):
  rectangle = keypoint(1, 1, type='rectanglelabels')
  first = annotation(keypoint(10, 20), keypoint(30, 40), rectangle, number=7, worker=5, second=1)
  user = {'id': 6, 'email': 'a@example.com', 'first_name': '', 'last_name': ''}
  later = annotation(keypoint(50, 60), number=8, worker=user, second=9, lead_time=None)
  skipped = annotation(keypoint(70, 80), number=9, was_cancelled=True)
  prediction = {'model_version': 'm', 'result': [keypoint(90, 90)]}
  clicks, counts = _read(
    tmp_path, [task(1, 'cat/0.jpg', later, first, skipped, predictions=[prediction])]
  )
  points = clicks['cat/0.jpg']
  assert _xy(points) == [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)]
  assert [p.sitting for p in points] == [Sitting('7', '5', 4288)] * 2 + [Sitting('8', '6', None)]
  assert points[0].where == points[1].where != points[2].where
  assert points[2].time - points[0].time == 8000
  assert counts == {
    'task read': 1,
    'annotations read': 3,
    'annotation cancelled, ignored': 1,
    'result of another type, ignored': 1,
    'clicks read': 3,
    'file of clicks, read as Label Studio JSON': 1,
  }


def test_ids_that_no_xml_holds_are_cleaned(tmp_path):
  odd = annotation(keypoint(1, 1), number='a\0\n', worker='\ud800<b>@x.org')
  clicks, _ = _read(tmp_path, [task('\ud800', 'cat/0.jpg', odd)])
  (point,) = clicks['cat/0.jpg']
  assert point.sitting == Sitting('a__', '__b_@x.org', 4288)
  assert point.where.endswith('task _, annotation a__')


def test_labels_of_a_keypoint(tmp_path):
  both = keypoint(1, 1)
  both['value']['keypointlabels'] = ['cat', 'dog']
  alone = keypoint(2, 2, type='keypoint', value={'x': 2, 'y': 2, 'width': 1})
  tagged = keypoint(3, 3, type='keypoint', value={'x': 3, 'y': 3, 'width': 1}, id='a')
  tag = keypoint(3, 3, type='labels', value={'x': 3, 'y': 3, 'width': 1, 'labels': ['owl']}, id='a')
  negative = keypoint(4, 4, is_positive=False)
  clicks, counts = _read(
    tmp_path, [task(1, 'cat/0.jpg', annotation(both, alone, tagged, tag, negative))]
  )
  assert [(p.x, p.label) for p in clicks['cat/0.jpg']] == [
    (0.01, 'cat'),
    (0.01, 'dog'),
    (0.02, ''),
    (0.03, 'owl'),
  ]
  assert counts['click malformed, skipped'] == 1  # the negative keypoint


def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path):
  good = task(1, 'cat/0.jpg', annotation(keypoint(1, 1, size=(60, 80))))
  values = [{}, {'x': 1}, {'x': 'a', 'y': 1}, {'x': 1, 'y': float('nan')}, {'x': 10**400, 'y': 1}]
  broken = annotation(*({**keypoint(1, 1), 'value': value} for value in values), 'text', None)
  tasks = [
    good,
    good,
    {**good, 'id': 2},
    task(3, 'cat/0.jpg', broken, {'result': None}, 'text'),
    task(4, 'cat/9.jpg', annotation(keypoint(1, 1))),
    task(5, 'cat/0.jpg', annotation(keypoint(1, 1, to_name=[], item_index='a')), data={'a': None}),
    {'id': 6, 'data': {}},
    'text',
  ]
  clicks, counts = _read(tmp_path, tasks)
  assert _xy(clicks['cat/0.jpg']) == [(0.01, 0.01)] * 2
  assert [p.size for p in clicks['cat/0.jpg']] == [(60, 80)] * 2
  assert {
    'task listed twice, the first entry is used': 1,
    'tasks malformed, skipped': 2,
    'annotations malformed, skipped': 2,
    'clicks malformed, skipped': 5,
    'clicks without a matching image, skipped': 2,
    'image in several entries of the export, all clicks kept': 1,
  }.items() <= counts.items()


def test_points_of_cvat(tmp_path):
  box = '<box label="Object" xtl="1" ytl="1" xbr="5" ybr="5" occluded="0" z_order="0"></box>'
  skeleton = f'<skeleton label="s" z_order="0">{cvat_points("1,1")}</skeleton>'
  bad = cvat_points('1.00,2.00;3;nan,1;4,5,6;')
  image = cvat_image(
    0, 'cat/0.jpg', (100, 200), cvat_points('20.00,30.00;100.50,99.99', 'cat'), box, skeleton
  )
  clicks, counts = _read(
    tmp_path,
    cvat_xml(
      image,
      image,
      cvat_image(1, 'dog/1.jpg', (10, 10), bad),
      cvat_image(2, NAMES[2], (10, 10), cvat_points('1,1')),
      cvat_image(3, 'owl/1.jpg', (10, 10), cvat_points('1,1')),
      cvat_image(4, 'cat/0.jpg', (0, 10), cvat_points('1,1')),
    ),
  )
  points = clicks['cat/0.jpg']
  assert _xy(points) == [(0.1, 0.3), (100.5 / 200, 99.99 / 100)]
  assert [(p.size, p.label, p.sitting) for p in points] == [((100, 200), 'cat', None)] * 2
  assert _xy(clicks['dog/1.jpg']) == [(0.1, 0.2)] and NAMES[2] in clicks
  assert counts == {
    'images in the XML': 6,
    'shapes of another type, ignored': 2,
    'clicks read': 9,
    'file of clicks, read as CVAT XML': 1,
    'image listed twice, the first entry is used': 1,
    'image listed with invalid values, skipped': 1,
    'clicks malformed, skipped': 4,
    'click without a matching image, skipped': 1,
  }


BOMB = (
  '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
  '<annotations><image id="0" name="&b;" width="9" height="9"/></annotations>'
)
TRACK = (
  '<annotations><track id="0" label="a"><points frame="0" points="1,1"/></track></annotations>'
)
MIN = [{'image': 'cat/0.jpg', 'kp': [{'x': 1, 'y': 1, 'keypointlabels': ['a']}], 'id': 1}]
OUTSIDE = [task(1, 'cow/0.jpg', annotation(keypoint(1, 1)))]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ([], 'export contains no tasks: export annotated ones'),
    ({}, 'not an export of Label Studio'),
    (MIN, 'choose JSON as its format, not JSON-MIN'),
    ({'images': [], 'annotations': [], 'categories': []}, 'a COCO instances file.*--coco'),
    ('[{"id": 1,', 'is not well-formed JSON'),
    (b'[\xff\xfe]', 'is not well-formed JSON'),
    ('[' * 100_000, 'is not well-formed JSON .*recursion'),
    ('[{"data": {"a": ' + '[' * 100_000, 'is not well-formed JSON .*recursion'),
    ('[' + '9' * 5000 + ']', 'is not well-formed JSON'),
    ([task(1, 'cat/0.jpg')], 'none of its tasks gives a point'),
    ([task(1, 'cat/0.jpg', 5)], 'none of its tasks.*first problem: annotation malformed|gives a'),
    (OUTSIDE, r"none of its tasks.*task 1, annotation 1: 'cow/0.jpg': no such image.*must end in"),
    (TRACK, 'contains video tracks: export the task as "CVAT for images 1.1"'),
    ('<annotation><object/></annotation>', 'holds no images as "CVAT for images 1.1"'),
    (cvat_xml(), 'holds no images'),
    (cvat_xml(cvat_image(0, 'cat/0.jpg', (9, 9))), 'none of its images gives a point'),
    (cvat_xml(cvat_image(0, 'a', (9, 9), cvat_points('1,1')))[:-20], 'not well-formed XML'),
    (BOMB, 'it has a document type'),
    ('<a>' * 100_000, 'not well-formed XML'),
    ('<html><body>Not found</body></html>', 'holds no images'),
    (b'PK\3\4rest', 'is a zip or an Excel file: pass the annotations.xml in it'),
  ],
)
def test_files_that_cannot_be_used_are_one_line(content, message, tmp_path):
  with pytest.raises(UserError, match=message) as error:
    _read(tmp_path, content)
  assert '\n' not in str(error.value) and len(str(error.value)) < 600


def test_deep_xml_is_skipped(tmp_path):
  depth = 100_000
  deep = f'<polygon>{"<a>" * depth}{"</a>" * depth}</polygon>'
  clicks, _ = _read(tmp_path, cvat_xml(cvat_image(0, '0.jpg', (9, 9), deep, cvat_points('1,1'))))
  assert list(clicks) == ['cat/0.jpg']


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(point_files, '_MAX_BYTES', 1 << 20)
  with pytest.raises(UserError, match='export has more than 1 MiB: split it'):
    _read(tmp_path, ' ' * ((1 << 20) + 1))
