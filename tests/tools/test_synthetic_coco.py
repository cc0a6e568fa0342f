"""The synthetic COCO-AB: instances, icons, and the oddities and structure of the real files."""

import collections
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from luab_jax.byproducts import coco_ab as coco_byproducts
from luab_jax.tools.synthetic import coco_release
from tests.synthetic_files import TRAIN, VALIDATION, generate, instances_of, keys, records_of


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
  out = tmp_path_factory.mktemp('coco_ab')
  generate('coco_ab', out, TRAIN, VALIDATION)
  return out


def test_coco_structure_is_that_of_the_mini_release(coco, shared):
  mini = shared / 'mini_release' / 'coco_ab'
  assert {p.name for p in mini.iterdir()} <= {p.name for p in coco.iterdir()}
  ours, theirs = records_of(coco), records_of(mini)
  assert keys(ours) == keys(theirs)
  assert {tuple(r) for r in ours} == {tuple(r) for r in theirs}  # in the same order
  for split in ('train', 'val'):
    ours, theirs = instances_of(coco, split), instances_of(mini, split)
    assert keys(ours) == keys(theirs)
    assert ours['categories'] == theirs['categories']
    with zipfile.ZipFile(coco / f'{split}2014.zip') as archive:
      names = archive.namelist()
      assert names == [f'{split}2014/{image["file_name"]}' for image in ours['images']]
      assert len(names[0]) == len(f'{split}2014/COCO_{split}2014_000000000009.jpg')
      for image in ours['images'][:20]:
        pixels = Image.open(io.BytesIO(archive.read(f'{split}2014/{image["file_name"]}')))
        assert pixels.size == (image['width'], image['height'])


def test_coco_categories_are_the_eighty():
  ordered = sorted(coco_release.CATEGORIES, key=lambda c: c['id'])
  assert tuple(c['name'] for c in ordered) == tuple(coco_byproducts.CLASS_NAMES)


def test_coco_instances_fit_their_images(coco):
  crowds = 0
  for split in ('train', 'val'):
    data = instances_of(coco, split)
    images = {image['id']: image for image in data['images']}
    ids = [a['id'] for a in data['annotations']]
    assert len(ids) == len(set(ids))
    per_image = collections.Counter(a['image_id'] for a in data['annotations'])
    assert set(per_image.values()) == {1, 2, 3, 4} and set(per_image) == set(images)
    for a in data['annotations']:
      image, (x, y, w, h) = images[a['image_id']], a['bbox']
      assert x >= 0 and y >= 0
      assert x + w <= image['width'] + 0.02 and y + h <= image['height'] + 0.02
      if a['iscrowd']:
        crowds += 1
        counts = a['segmentation']['counts']
        values = np.arange(len(counts)) % 2
        mask = np.repeat(values, counts).reshape(image['width'], image['height']).T
        assert mask.sum() == a['area']
        rows, columns = np.nonzero(mask)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(found, (x, y, x + w, y + h))).max() <= 1.5
      else:
        outline = np.array(a['segmentation'][0]).reshape(-1, 2)
        assert outline.min(axis=0) == pytest.approx((x, y), abs=0.02)
        assert outline.max(axis=0) == pytest.approx((x + w, y + h), abs=0.02)
        assert 0.2 * w * h < a['area'] <= w * h
  assert crowds


def test_coco_oddities_occur_and_icons_end_on_objects(coco):
  names = {c['id']: c['name'] for c in coco_release.CATEGORIES}
  data = instances_of(coco, 'train')
  boxes = collections.defaultdict(list)
  for a in data['annotations']:
    boxes[a['image_id'], names[a['category_id']]].append(a['bbox'])
  sizes = {image['id']: (image['width'], image['height']) for image in data['images']}
  records = records_of(coco)
  assert 0.9 * TRAIN < len(records) < TRAIN  # images without a record
  seen = collections.Counter()
  for record in records:
    icons = {}
    width, height = sizes[record['image_id']]
    seen['zero size'] += record['originalImageWidth'] == 0
    assert record['originalImageWidth'] in (0, width)
    assert bool(record['imageWidth']) == bool(record['originalImageWidth'])
    assert [c['categoryIndex'] for c in record['categoryHistories']] == list(range(11))
    times = [a['timeAt'] for a in record['actionHistories']]
    assert times == sorted(times) and all(t <= record['timeSpent'] for t in times)
    for action in record['actionHistories']:
      seen[action['actionType']] += 1
      name, start, end = action['iconType'], action['pointFrom'], action['pointTo']
      assert start == icons.pop(name, None)
      if end:
        icons[name] = end
    seen['missed'] += sum(i == record['image_id'] and name not in icons for i, name in boxes)
    for name, point in icons.items():
      on = [
        x <= point['x'] * width <= x + w and y <= point['y'] * height <= y + h
        for x, y, w, h in boxes[record['image_id'], name]
      ]
      seen['absent class'] += not on
      assert any(on) or not on
      seen['right'] += any(on)
  for oddity in ('zero size', 'add', 'move', 'remove', 'missed', 'absent class'):
    assert seen[oddity], oddity
  assert seen['right'] > 5 * seen['missed'] > 0
  clocks = [[p['timeAt'] for p in r['mouseTracking']] for r in records]
  assert all(np.all(np.diff(clock) >= 0) for clock in clocks)
  assert np.median([len(clock) for clock in clocks]) > 10
