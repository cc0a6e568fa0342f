"""Composites of Caltech-101, from small painted archives."""

import collections
import io
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from configs import caltech_scenes
from luab_jax.byproducts import imagenet_ab
from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from luab_jax.tools.composites import __main__ as command
from luab_jax.tools.composites import backgrounds, caltech, clicks, compose, masks, parts
from luab_jax.tools.composites.caltech import CLASSES, SCENES, Photograph
from luab_jax.tools.composites.pictures import SPLITS, TRAINING, Pictures
from luab_jax.train.experiment import Experiment
from tests import painted_caltech
from tfds_builders import build

_DAMAGED = 'Annotations/panda/annotation_0004.mat'
_TURNED = '101_ObjectCategories/emu/image_0001.jpg'


@pytest.fixture(scope='module')
def archives():
  """({name: JPEG}, {name: MATLAB file}), with a damaged, a missing and a rotated member."""
  images, outlines = painted_caltech.files(photos=5)
  outlines[_DAMAGED] = outlines[_DAMAGED][:150]
  del outlines['Annotations/crab/annotation_0002.mat']
  exif = Image.Exif()
  exif[0x0112] = 6  # rotated by 90 degrees
  with Image.open(io.BytesIO(images[_TURNED])) as image:
    images[_TURNED] = painted_caltech.encode(np.asarray(image), exif=exif)
  return images, outlines


@pytest.fixture(scope='module')
def made(archives, tmp_path_factory):
  """(the folder that the command writes, what it prints)."""
  folder = tmp_path_factory.mktemp('composites')
  painted_caltech.write(folder / 'caltech', *archives)
  with pytest.MonkeyPatch.context() as patch:
    said = io.StringIO()
    patch.setattr('sys.stdout', said)
    command.main([f'--caltech={folder}/caltech', f'--out={folder}/out'])
  return folder / 'out', said.getvalue()


@pytest.fixture(scope='module')
def images(made):
  """{split: {stem: (class, u8[H, W, 3])}}."""
  found = collections.defaultdict(dict)
  for split in SPLITS:
    for label, name, data in reader.iter_class_members(made[0] / f'caltech_img_{split}.tar'):
      with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif() and b'CC BY 4.0' in image.info['comment']
        found[split][name.removesuffix('.JPEG')] = label, np.asarray(image.convert('RGB'))
  return found


@pytest.fixture(scope='module')
def records(made):
  """{stem: Record} of both XML archives."""
  return {
    name.rpartition('/')[2].removesuffix('.xml'): imagenet_ab.parse_xml(data)
    for archive in ('imagenet_ab_v1_0.tar.gz', 'ILSVRC2012_bbox_val_v3.tgz')
    for name, data in reader.iter_members(made[0] / archive)
  }


def _object(pixels):
  """bool[H, W]: where the painted object, including its dot, is at least half opaque."""
  return backgrounds.grey(pixels) > 140


def _dot(pixels):
  return pixels[..., 2] > 170


@pytest.mark.parametrize('split', [s for s in SPLITS if s != 'only_bg_t'])
def test_the_box_is_round_the_object(split, images, records):
  for stem, (_, pixels) in images[split].items():
    box = records[stem].boxes[0]
    found = masks.bounds(_object(pixels))
    np.testing.assert_allclose(found, (box.xmin, box.ymin, box.xmax, box.ymax), atol=1)


def test_clicks_lie_on_the_object_and_not_all_in_its_middle(images, records):
  selected, distances = [], []
  for split in ('train', 'train_bg70', 'train_bg10'):
    for stem, (_, pixels) in images[split].items():
      record = records[stem]
      selected.append(record.blocks[0].selected)
      assert len(record.clicks.x) == record.blocks[0].selected_count == selected[-1]
      assert len(record.trace.x) >= 2 or record.blocks[0].estimate_time_ms < 17
      height, width = pixels.shape[:2]
      dot = (np.argwhere(_dot(pixels)).mean(axis=0) + 0.5)[::-1] / (width, height)
      inside = ndimage.binary_dilation(_object(pixels))
      for x, y in zip(record.clicks.x, record.clicks.y, strict=True):
        assert inside[int(y * height), int(x * width)], stem
        distances.append(np.hypot(*(dot - (x, y))))
  assert 0.83 < np.mean(selected) < 0.96
  assert np.median(distances) > 0.02


def test_splits_share_objects_and_places(images, records):
  for one, other in (('train_bg70', 'train_bg10'), ('bg_same', 'bg_rand')):
    pairs = list(zip(images[one], images[other], strict=True))
    assert len(pairs) > 30
    for a, b in pairs:
      assert records[a].boxes == records[b].boxes
      np.testing.assert_array_equal(records[a].clicks.x, records[b].clicks.x)
  for stem in [*images['mixed_same'], *images['mixed_rand']]:
    assert records[stem].boxes == records[stem[:-3] + 'fg'].boxes


def test_the_share_of_the_scene_of_the_class_is_exact(made, images):
  scene_of = dict(line.split('\t')[:2] for line in (made[0] / 'scenes.tsv').open())
  own = {label: list(SCENES)[number % 10] for number, label in enumerate(CLASSES)}
  for split, share in (('train_bg70', 0.7), ('train_bg10', 0.1), ('bg_same', 1), ('bg_rand', 0)):
    dealt = collections.defaultdict(list)
    for stem, (label, _) in images[split].items():
      dealt[label].append(scene_of[stem])
    for label, scenes in dealt.items():
      assert scenes.count(own[label]) == round(share * len(scenes)), (split, label)
      others = collections.Counter(scene for scene in scenes if scene != own[label])
      assert not others or max(others.values()) <= -(-others.total() // 9)


def test_no_photograph_is_in_both_parts(made, images):
  objects = {split: {stem[: stem.index('_0') + 5] for stem in images[split]} for split in SPLITS}
  assert objects['train'] == objects['train_bg70'] == objects['train_bg10']
  assert objects['val'] == objects['bg_same'] == objects['bg_rand'] == objects['only_fg']
  assert not objects['train'] & objects['val']
  sources = collections.defaultdict(set)
  for line in list((made[0] / 'scenes.tsv').open())[1:]:
    stem, _, source = line.split()
    sources[bool(re.search(r'_[pq]\d$', stem))].add(source)
  assert not sources[True] & sources[False]


def test_what_is_left_out_is_counted_and_named(made):
  problems = (made[0] / 'problems.csv').read_text()
  assert '"outline unreadable, left out",panda/annotation_0004.mat' in problems
  assert '"photograph without an outline, left out",crab/image_0002.jpg' in problems
  assert problems.count('\n') == 3
  assert 'panda/annotation_0004.mat' in made[1] and 'clicks simulated' in made[1]
  assert 'nobody clicked' in (made[0] / 'README.txt').read_text()


def test_an_exif_orientation_is_ignored_as_the_outlines_ignore_it(images):
  _, pixels = next(
    i for split in ('train', 'val') for s, i in images[split].items() if s == 'emu_0001'
  )
  assert pixels.shape == (136, 110, 3)


@pytest.mark.slow
def test_two_runs_write_the_same_bytes(made, archives, tmp_path):
  painted_caltech.write(tmp_path / 'caltech', *archives)
  command.main([f'--caltech={tmp_path}/caltech', f'--out={tmp_path}/out'])
  names = {path.name for path in made[0].iterdir()}
  assert names == {path.name for path in (tmp_path / 'out').iterdir()}
  for name in names:
    assert (made[0] / name).read_bytes() == (tmp_path / 'out' / name).read_bytes(), name


def test_another_seed_makes_other_pictures():
  rng = np.random.default_rng(0)
  objects = {'ant': [Photograph(f'ant_{k}', *painted_caltech.paint(rng)) for k in range(4)]}
  scenes = {scene: [Photograph(scene, *painted_caltech.paint(rng))] * 2 for scene in SCENES}
  first, again, other = (
    next(Pictures(objects, scenes, seed).on_scenes(TRAINING, 'p', 0.7)).pixels for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.array_equal(first, other)


def test_a_mask_covers_what_is_inside_the_outline():
  outline = np.array([(2, 3), (12, 3), (12, 8.5), (2, 8.5)])
  cover = masks.coverage(outline, (20, 15))
  assert cover[3:8, 2:12].min() == 1 and cover.sum() == pytest.approx(55, abs=4)
  assert masks.box(cover) == (2, 3, 12, 9)
  soft = masks.soften(cover)
  assert soft[3:8, 2].max() < 0.5 < soft[4:7, 3].min() and soft[5, 6] > 0.95


def test_a_thin_object_is_not_lost():
  cover = masks.coverage(np.array([(2, 5), (18, 5), (18, 6), (2, 6)]), (20, 15))
  assert masks.soften(cover).max() > 0.3
  photo = Photograph('x', np.full((15, 20, 3), 9, np.uint8), np.array([(2, 5), (18, 5), (18, 6)]))
  assert compose.cut_out(photo)[0].opacity.shape[1] > 12


@pytest.mark.parametrize('width', range(100, 180, 7))
def test_a_background_of_any_shape_fits(width):
  for size in ((width, 110), (110, width)):
    for other in (90, 131, 170):
      fitted = compose.fit(np.full((110, other, 3), 9, np.uint8), size)
      assert fitted.shape == (size[1], size[0], 3) and fitted.min() == fitted.max() == 9


def test_an_outline_is_read_in_our_pixels():
  outline = np.array([(10.0, 20.0), (40.5, 22.0), (30.0, 61.25)])
  read = caltech.read_outline(painted_caltech.to_mat(outline))
  np.testing.assert_allclose(read, outline)


def test_the_largest_strip_is_tiled_over_the_object():
  pixels = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
  filled, fraction = backgrounds.tile_away(pixels, (4, 3, 9, 7))
  np.testing.assert_array_equal(filled[3:7, 4:9], pixels[:, :4][3:7][:, [0, 1, 2, 3, 0]])
  outside = np.ones((10, 12), bool)
  outside[3:7, 4:9] = False
  np.testing.assert_array_equal(filled[outside], pixels[outside])
  assert fraction == pytest.approx(4 / 12)
  assert backgrounds.tile_away(pixels, (0, 0, 12, 10))[1] == 0


def test_near_duplicates_lie_in_one_part():
  rng = np.random.default_rng(0)
  photos = [Photograph(str(i), painted_caltech.paint(rng)[0], np.empty((0, 2))) for i in range(8)]
  mirrored = photos[0].pixels[:, ::-1]
  darker = (photos[1].pixels * 0.9).astype(np.uint8)
  photos += [Photograph('mirror', mirrored, photos[0].outline)]
  photos += [Photograph('darker', darker, photos[0].outline)]
  for seed in range(8):
    training, validation = parts.divide(photos, np.random.default_rng(seed))
    assert len(training) == 7 and len(validation) == 3
    names = {photo.name for photo in validation}
    assert ('0' in names) == ('mirror' in names) and ('1' in names) == ('darker' in names)
  training, validation = parts.divide([photos[0]] * 3, np.random.default_rng(0))
  assert len(training) == 2 and len(validation) == 1


def test_clicks_stay_in_a_ring():
  y, x = np.mgrid[:60, :60] - 29.5
  ring = ((np.hypot(x, y) < 25) & (np.hypot(x, y) > 23)).astype(np.float32)
  for seed in range(20):
    x, y = clicks.aim(np.random.default_rng(seed), ring, (150, 150))
    assert ring[int(y * 60), int(x * 60)] == 1


def _main(folder, **options):
  command.main([f'--{name}={value}' for name, value in {'caltech': folder, **options}.items()])


def test_mistakes_are_told_in_one_line(archives, tmp_path):
  images, outlines = archives
  out, caltech_folder = tmp_path / 'out', tmp_path / 'caltech'

  def refused(pattern, **options):
    with pytest.raises(UserError, match=pattern) as caught:
      _main(options.pop('folder', caltech_folder), **{'out': out, **options})
    assert '\n' not in str(caught.value)
    assert not list(out.glob('*.tar'))

  refused('is not a folder')
  caltech_folder.mkdir()
  refused('101_ObjectCategories.tar.gz is missing: get .* from caltech-101.zip')
  (caltech_folder / 'caltech-101.zip').touch()
  refused('unzip caltech-101.zip')
  without = {name: data for name, data in images.items() if '/panda/' not in name}
  painted_caltech.write(caltech_folder, without, outlines)
  refused('has no files of the class panda')
  flat = {name: b'no matrix' if '/ant/' in name else data for name, data in outlines.items()}
  painted_caltech.write(caltech_folder, images, flat)
  refused('ant has fewer than two photographs with a usable outline; the first problem: outline un')
  leopards = {n: b'' if 'Leopards/' in n and '0001' not in n else d for n, d in images.items()}
  painted_caltech.write(caltech_folder, leopards, outlines)
  refused('fewer than two photographs of .*Leopards.* are readable')
  (caltech_folder / caltech.OUTLINES).write_bytes(b'x' * 2000)
  refused('Annotations.tar is truncated or damaged')
  refused('keep them apart', out=caltech_folder / 'out')
  refused('out of range', seed=-1)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine/own.txt').touch()
  refused('was not made by this command', out=tmp_path / 'mine')


@pytest.mark.slow
def test_the_output_builds_and_gives_what_training_needs(made, tmp_path):
  folders = [f'--manual_dir={made[0]}', f'--data_dir={tmp_path}/built']
  assert build.main(['imagenet_ab/local', *folders]) == 0
  config = caltech_scenes.get_config()
  config.data.data_dir = f'{tmp_path}/built'
  splits = Experiment(config).splits

  def read(split, **options):
    return list(splits.batches(config.data.eval_splits[split], **options)[0])

  assert sum(batch['box_mask'].any(-1).sum() for batch in read('bg_rand', boxes=True)) == 72
  held = read('heldout_clicks')
  clicked = np.concatenate([batch['point'][batch['point_mask'] > 0] for batch in held])
  assert len(clicked) > 0.6 * sum(batch['example_mask'].sum() for batch in held)
  assert 0 <= clicked.min() < clicked.max() <= 1
