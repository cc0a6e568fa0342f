"""The synthetic ImageNet-AB: workers, and the oddities and structure of the real files."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from luab_jax.tools.synthetic import behaviour, imagenet_release
from tests.synthetic_files import (
  TRAIN,
  VALIDATION,
  annotations_of,
  generate,
  images_of,
  points,
  tags,
  tar_members,
)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
  out = tmp_path_factory.mktemp('imagenet_ab')
  generate('imagenet_ab', out, TRAIN, VALIDATION)
  return out


def test_clicks_lie_in_the_box(imagenet):
  """The last click of each showing is in the object's box, even if an earlier one was not."""
  checked = 0
  for root in annotations_of(imagenet).values():
    if root.find('object') is None:
      continue
    width, height = (int(root.findtext(f'size/{t}')) for t in ('width', 'height'))
    xmin, ymin, xmax, ymax = (
      int(root.findtext(f'object/bndbox/{t}')) for t in ('xmin', 'ymin', 'xmax', 'ymax')
    )
    for block in root.findall('metadata'):
      clicks = points(block, 'selectedRecord')
      if len(clicks):
        _, x, y = clicks[-1]
        assert xmin <= x * width <= xmax and ymin <= y * height <= ymax
        checked += 1
  assert checked > 100


def test_tracks_move_to_the_click_at_60_hz(imagenet):
  start, end, lengths = [], [], []
  for root in annotations_of(imagenet).values():
    for block in root.findall('metadata'):
      track, clicks = points(block, 'mouseTracking'), points(block, 'selectedRecord')
      assert np.all(np.diff(track[:, 0]) >= 1000 // 60)
      assert np.all((track[:, 1:] >= 0) & (track[:, 1:] <= 1))
      if len(clicks) == 1:
        assert np.array_equal(track[-1], clicks[0])  # no samples are kept while it is selected
        estimate = int(block.findtext('estimateTime'))
        way = track[track[:, 0] >= clicks[0, 0] - estimate]
        lengths.append(len(way))
        if len(way) > 5:
          distances = np.hypot(*(way[:, 1:] - clicks[0, 1:]).T)
          start.append(distances[0])
          end.append(distances[-len(way) // 4 :].mean())
  assert np.mean(start) > 0.3 and np.mean(end) < 0.25 * np.mean(start)
  assert min(lengths) == 1 and 10 < np.median(lengths) < 100


def test_estimate_times_have_a_heavy_tail():
  rng = np.random.default_rng(0)
  times = np.array([behaviour.decision_time(rng) for _ in range(4000)])
  assert times.min() >= 2 and np.quantile(times, 0.01) < 15  # bots
  assert 450 < np.median(times) < 800
  assert times.mean() > 1.3 * np.median(times) and times.max() > 10_000


def test_imagenet_oddities_occur(imagenet):
  """A small set contains everything that is difficult to read in the real release."""
  members = tar_members(imagenet / 'imagenet_ab_v1_0.tar.gz')
  companions = [name for name in members if '/._' in name]
  assert companions
  assert all(members[name].startswith(b'\x00\x05\x16\x07') for name in companions)
  roots = annotations_of(imagenet)
  assert set(roots) < set(images_of(imagenet / 'ILSVRC2012_img_train.tar'))  # images without XML
  assert {len(root.findall('metadata')) for root in roots.values()} == {0, 1, 2, 3}
  assert {root.find('size') is None for root in roots.values()} == {True, False}
  blocks = [block for root in roots.values() for block in root.findall('metadata')]
  states = {(b.findtext('selected'), int(b.findtext('selectedCount'))) for b in blocks}
  assert states == {('True', 1), ('True', 2), ('False', 0), ('False', 1)}
  assert all(len(b.findall('selectedRecord')) == int(b.findtext('selectedCount')) for b in blocks)
  assert any(
    len(b.findall('mouseTracking')) == 1 and not len(b.find('mouseTracking')) for b in blocks
  )
  assert any(len(b.findall('hoveredRecord')) > 2 for b in blocks)
  assert {b.find('imagePosition') is None for b in blocks} == {True, False}
  toggled = [points(b, 'selectedRecord') for b in blocks if b.findtext('selectedCount') == '2']
  assert max(np.hypot(*(clicks[1] - clicks[0])[1:]) for clicks in toggled) > 0.2
  assert all(1.6e12 < float(e.text) < 1.7e12 for b in blocks for e in b.iter('time'))


def test_imagenet_structure_is_that_of_the_mini_release(imagenet, shared):
  mini = shared / 'mini_release' / 'imagenet_ab'
  assert {p.name for p in mini.iterdir()} <= {p.name for p in imagenet.iterdir()}
  folders = {name.split('/')[0] for name in tar_members(imagenet / 'imagenet_ab_v1_0.tar.gz')}
  assert folders == {'train_xml'}
  for has_header in (True, False):
    ours, theirs = (
      [r for r in annotations_of(path).values() if (r.find('size') is not None) == has_header]
      for path in (imagenet, mini)
    )
    # The real release has page_idx; its excerpt, the mini release, does not.
    assert set().union(*map(tags, ours)) - {'metadata/page_idx'} == set().union(*map(tags, theirs))
    order = [child.tag for child in ours[0] if child.tag not in ('object', 'metadata')]
    assert order == [child.tag for child in theirs[0] if child.tag not in ('object', 'metadata')]
  for block in (b for r in annotations_of(imagenet).values() for b in r.findall('metadata')):
    names = [child.tag for child in block]
    assert names == sorted(names, key=str.lower)
  ours, theirs = (tar_members(path / 'ILSVRC2012_bbox_val_v3.tgz') for path in (imagenet, mini))
  images = {
    stem
    for split in ('val', 'uncorrelated')
    for _, stem in images_of(imagenet / f'ILSVRC2012_img_{split}.tar')
  }
  assert set(ours) == {f'val/{stem}.xml' for stem in images} and len(images) == 2 * VALIDATION
  box_tags = [set().union(*(tags(ET.fromstring(d)) for d in m.values())) for m in (ours, theirs)]
  assert box_tags[0] == box_tags[1]


def test_stems_are_unique_over_the_splits(imagenet):
  stems = [
    key
    for split in imagenet_release.SPLITS
    for key in images_of(imagenet / f'ILSVRC2012_img_{split}.tar')
  ]
  assert len(stems) == len(set(stems))


@pytest.mark.parametrize(
  ('objects', 'low', 'high'), [('alike', 0.34, 0.52), ('varied', 0.19, 0.58)]
)
def test_objects_are_as_large_as_asked(objects, low, high):
  drawn = [imagenet_release.draw(0, 'train', i, 0.7, 96, objects)[0] for i in range(150)]
  widths = np.array([2 * scene.objects[0].radius / 96 for scene in drawn])
  assert low <= widths.min() < low + 0.03
  assert high - 0.03 < widths.max() <= high
