"""Writes exports as Label Studio and CVAT do, with the fields that their documentation lists.

Not a test itself. Label Studio: https://labelstud.io/guide/task_format,
https://labelstud.io/tags/keypointlabels; CVAT: https://docs.cvat.ai/docs/other/xml_format.
"""

import json
from xml.sax.saxutils import quoteattr

_DATE = '2026-03-09T21:52:{:02}.513742Z'


def keypoint(x, y, label='Object', *, size=None, **changes):
  """A Label Studio region; x and y in percent, `size`: (height, width) of the image as shown."""
  return {
    **({'original_width': size[1], 'original_height': size[0]} if size else {}),
    'image_rotation': 0,
    'value': {'x': x, 'y': y, 'width': 0.4, 'keypointlabels': [label]},
    'id': f'r{x}{y}',
    'from_name': 'kp-1',
    'to_name': 'img-1',
    'type': 'keypointlabels',
    'origin': 'manual',
    **changes,
  }


def annotation(*regions, number=1, worker=1, second=0, **changes):
  return {
    'id': number,
    'completed_by': worker,
    'result': list(regions),
    'was_cancelled': False,
    'ground_truth': False,
    'created_at': _DATE.format(second),
    'updated_at': _DATE.format(second),
    'draft_created_at': None,
    'lead_time': 4.288,
    'prediction': {},
    'result_count': len(regions),
    'unique_id': f'08c0cbf5-{number:04}',
    **changes,
  }


def task(number, image, *annotations, **changes):
  return {
    'id': number,
    'annotations': list(annotations),
    'file_upload': None,
    'drafts': [],
    'predictions': [],
    'data': {'image': image},
    'meta': {},
    'created_at': _DATE.format(0),
    'updated_at': _DATE.format(59),
    'inner_id': number,
    'total_annotations': len(annotations),
    'cancelled_annotations': 0,
    'total_predictions': 0,
    'project': 83,
    **changes,
  }


def write_label_studio(path, places):
  """`places`: [(image name, (height, width) as shown, [(x, y, label)] in fractions)]."""
  tasks = [
    task(
      number,
      f'/data/local-files/?d=photos/{name}',
      annotation(
        *(keypoint(100 * x, 100 * y, label, size=size) for x, y, label in points),
        number=100 + number,
      ),
    )
    for number, (name, size, points) in enumerate(places, 1)
  ]
  path.write_text(json.dumps(tasks))


def cvat_image(number, name, size, *shapes):
  return (
    f'  <image id="{number}" name={quoteattr(name)} width="{size[1]}" height="{size[0]}">\n'
    + ''.join(f'    {shape}\n' for shape in shapes)
    + '  </image>\n'
  )


def cvat_points(text, label='Object'):
  return (
    f'<points label={quoteattr(label)} source="manual" occluded="0" points="{text}" z_order="0">\n'
    '    </points>'
  )


def cvat_xml(*images):
  return (
    '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n'
    '    <task>\n      <id>4</id>\n      <name>clicks</name>\n      <mode>annotation</mode>\n'
    '      <labels>\n        <label>\n          <name>Object</name>\n'
    '          <type>points</type>\n          <attributes>\n'
    '          </attributes>\n        </label>\n      </labels>\n'
    '    </task>\n    <dumped>2026-03-09 11:38:28.799808+03:00</dumped>\n  </meta>\n'
    + ''.join(images)
    + '</annotations>\n'
  )


def write_cvat(path, places):
  """Like `write_label_studio`; CVAT writes pixels with two decimals."""
  images = [
    cvat_image(
      number,
      name,
      size,
      *(cvat_points(f'{x * size[1]:.2f},{y * size[0]:.2f}', label) for x, y, label in points),
    )
    for number, (name, size, points) in enumerate(places)
  ]
  path.write_text(cvat_xml(*images))
