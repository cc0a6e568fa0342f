"""The synthetic releases: identical bytes in every run, images as specified, the command."""

import io
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.tools.synthetic import __main__ as command
from luab_jax.tools.synthetic import imagenet_release, scene
from tests.synthetic_files import (
  TRAIN,
  VALIDATION,
  annotations_of,
  generate,
  images_of,
  instances_of,
  records_of,
)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
  out = tmp_path_factory.mktemp('imagenet_ab')
  generate('imagenet_ab', out, TRAIN, VALIDATION)
  return out


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
  out = tmp_path_factory.mktemp('coco_ab')
  generate('coco_ab', out, TRAIN, VALIDATION)
  return out


# Reproducible bytes.


@pytest.mark.parametrize('release', command.RELEASES)
def test_same_bytes_in_another_process_and_folder(release, tmp_path):
  once = generate(release, tmp_path / 'a', 24, 6)
  assert generate(release, tmp_path / 'elsewhere' / 'b', 24, 6, hash_seed='2') == once
  other = generate(release, tmp_path / 'c', 24, 6, seed=1)
  assert other.keys() == once.keys()
  assert all(other[name] != once[name] for name in once)


def test_images_do_not_depend_on_how_many_there_are(imagenet, tmp_path):
  generate('imagenet_ab', tmp_path, 13, 7)
  for name in ('train', 'val', 'uncorrelated'):
    many = images_of(imagenet / f'ILSVRC2012_img_{name}.tar')
    few = images_of(tmp_path / f'ILSVRC2012_img_{name}.tar')
    assert len(few) == (13 if name == 'train' else 7)
    assert all(np.array_equal(many[key], image) for key, image in few.items())
  few = annotations_of(tmp_path)
  assert len(few) > 8
  many = annotations_of(imagenet)
  assert all(ET.tostring(many[key]) == ET.tostring(root) for key, root in few.items())


def test_an_interrupted_run_changes_nothing_and_can_be_repeated(tmp_path, monkeypatch):
  """An interruption leaves the folder as it was."""
  flags = ['--release=imagenet_ab', f'--out={tmp_path}', '--train=3', '--validation=1']
  command.main(flags)
  complete = {path.name for path in tmp_path.iterdir()}
  assert {'README.txt', '.written.json'} <= complete and len(complete) == 7

  def fail(pixels):
    raise KeyboardInterrupt

  for previous in (complete, set()):  # over a complete folder, and from nothing
    for path in tmp_path.iterdir():
      if path.name not in previous:
        path.unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
      patch.setattr(imagenet_release, 'encode_jpeg', fail)
      command.main(flags)
    assert {path.name for path in tmp_path.iterdir()} == previous
  command.main(flags)
  assert {path.name for path in tmp_path.iterdir()} == complete


def test_everything_says_that_it_is_synthetic(imagenet, coco):
  assert (imagenet / 'README.txt').read_text().startswith('luab_jax synthetic: imagenet_ab')
  assert (coco / 'README.txt').read_text().startswith('luab_jax synthetic: coco_ab')
  for (name, _), root in annotations_of(imagenet).items():
    assert name.startswith('synthetic_')
    assert root.findtext('source/database', 'luab_jax synthetic') == 'luab_jax synthetic'
    assert all(e.text.startswith('SYNTH') for e in root.iter('worker_id'))
  for split in ('train', 'val'):
    assert 'luab_jax synthetic' in instances_of(coco, split)['info']['description']
  assert all(r['worker_id'].startswith('SYNTH') for r in records_of(coco))
  with zipfile.ZipFile(coco / 'train2014.zip') as archive:
    image = Image.open(io.BytesIO(archive.read(archive.namelist()[0])))
  assert image.info['comment'] == b'luab_jax synthetic'


# Images.


def test_files_hold_what_was_drawn(imagenet):
  for split in imagenet_release.SPLITS:
    images = images_of(imagenet / f'ILSVRC2012_img_{split}.tar')
    assert len(images) == (TRAIN if split == 'train' else VALIDATION)
    assert {name for name, _ in images} == set(imagenet_release.CLASSES)
    for index in range(VALIDATION):
      drawn, stem = imagenet_release.draw(0, split, index, 0.7, 48)
      image = images[imagenet_release.CLASSES[index % 6], stem]
      assert np.abs(image.astype(int) - drawn.pixels).mean() < 8  # JPEG
  assert {image.shape for image in images.values()} == {(48, 48, 3), (48, 64, 3), (64, 48, 3)}


@pytest.mark.parametrize(
  ('split', 'correlation', 'expected'),
  [
    ('train', 0.7, 0.7),
    ('val', 0.7, 0.7),
    ('train', 1.0, 1.0),
    ('train', 0.0, 0.0),
    ('uncorrelated', 0.7, 1 / 6),
  ],
)
def test_textures_are_correlated_with_the_class_as_requested(split, correlation, expected):
  number = 720
  offsets = [
    (imagenet_release.draw(0, split, index, correlation, 32)[0].texture - index) % 6
    for index in range(number)
  ]
  shares = np.bincount(offsets, minlength=6) / number
  tolerance = 4 * np.sqrt(expected * (1 - expected) / number)
  assert abs(shares[0] - expected) <= tolerance
  others = (1 - expected) / 5
  assert np.all(np.abs(shares[1:] - others) <= 4 * np.sqrt(others / number))


def test_textures_are_linearly_separable():
  """A linear classifier on the spectrum recognises the texture, so the shortcut can be learned."""
  from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

  spectra, textures = [], []
  y, x = np.meshgrid(*[48 * np.fft.fftfreq(48)] * 2, indexing='ij')
  bins = [[0.5, 3.5, 10.5, 16], np.linspace(0, np.pi, 13)]  # cycles per image, direction
  for index in range(600):
    drawn, _ = imagenet_release.draw(0, 'uncorrelated', index, 0.7, 48)
    colours = drawn.pixels[:48, :48].reshape(-1, 3).astype(float)
    colours -= colours.mean(axis=0)
    tone = colours @ np.linalg.svd(colours, full_matrices=False)[2][0]  # along the main colour
    energy = np.abs(np.fft.fft2(tone.reshape(48, 48) / tone.std())) ** 2
    spectrum, _, _ = np.histogram2d(
      np.hypot(x, y).ravel(), np.mod(np.arctan2(y, x), np.pi).ravel(), bins, weights=energy.ravel()
    )
    spectra.append(np.log(spectrum + 1).ravel())
    textures.append(drawn.texture)
  classifier = LinearDiscriminantAnalysis(solver='lsqr', shrinkage='auto')
  classifier.fit(spectra[:400], textures[:400])
  # The object hides a part of each texture; chance is 1 in 6.
  assert classifier.score(spectra[400:], textures[400:]) > 0.7


@settings(max_examples=60, deadline=None)
@given(
  seed=st.integers(0, 2**32),
  size=st.integers(32, 96),
  shapes=st.lists(st.integers(0, 5), min_size=1, max_size=5),
  texture=st.integers(0, 5),
)
def test_objects_lie_in_the_image_and_apart(seed, size, shapes, texture):
  drawn = scene.draw_scene(np.random.default_rng(seed), shapes, texture, size, (0.1, 0.19))
  assert min(drawn.width, drawn.height) == size
  assert drawn.objects[0].shape == shapes[0]
  covers = [scene.coverage(obj, drawn.width, drawn.height) for obj in drawn.objects]
  assert np.max(sum((cover > 0).astype(int) for cover in covers)) == 1
  for obj, cover in zip(drawn.objects, covers, strict=True):
    xmin, ymin, xmax, ymax = obj.box
    assert xmin >= -1e-9 and ymin >= -1e-9
    assert xmax <= drawn.width + 1e-9 and ymax <= drawn.height + 1e-9
    perimeter = np.hypot(*(obj.outline - np.roll(obj.outline, 1, axis=0)).T).sum()
    assert abs(cover.sum() - obj.area) <= perimeter / 8  # edges are exact to an eighth of a pixel
    rows, columns = np.nonzero(cover)  # the box fits the pixels
    assert abs(columns.min() - xmin) <= 1.1 and abs(columns.max() + 1 - xmax) <= 1.1
    assert abs(rows.min() - ymin) <= 1.1 and abs(rows.max() + 1 - ymax) <= 1.1


def test_objects_are_placed_uniformly():
  centers = np.array(
    [imagenet_release.draw(0, 'train', index, 0.7, 32)[0].objects[0].center for index in range(600)]
  )
  square = centers[np.all(centers < 32, axis=1)] / 32
  assert np.all(np.abs(square.mean(axis=0) - 0.5) < 0.05)
  assert np.all(square.std(axis=0) > 0.15)  # uniform over the free two thirds: 0.19


# The command.


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--release=imagenet'], 'invalid choice'),
    (['--release=coco_ab', '--correlation=70'], '--correlation=70.0 is out of range'),
    (['--release=coco_ab', '--objects=varied'], '--objects=varied is only for imagenet_ab'),
    (['--release=coco_ab', '--train=0'], '--train=0 is out of range'),
    (['--release=coco_ab', '--trian=10'], '--trian=10'),
    (['--release=coco_ab', '--size=8'], 'choose from 32'),
    ([], '--release'),
  ],
)
def test_a_mistake_is_one_line(flags, message, tmp_path):
  with pytest.raises(UserError) as caught:
    command.main([*flags, f'--out={tmp_path / "new"}'])
  assert message in str(caught.value) and '\n' not in str(caught.value)
  assert not (tmp_path / 'new').exists()


def test_out_must_be_a_folder(tmp_path):
  (tmp_path / 'file').write_text('mine')
  result = subprocess.run(
    [
      sys.executable,
      '-m',
      'luab_jax.tools.synthetic',
      '--release=coco_ab',
      f'--out={tmp_path / "file"}',
    ],
    capture_output=True,
    text=True,
  )
  assert result.returncode == 2
  assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1
  assert (tmp_path / 'file').read_text() == 'mine'


def test_only_its_own_files_are_overwritten(tmp_path):
  flags = ['--release=coco_ab', f'--out={tmp_path}', '--train=3', '--validation=1']
  precious = tmp_path / 'train2014.zip'
  precious.write_text('the real images')
  with pytest.raises(UserError, match='not made by this command: .* use a new folder'):
    command.main(flags)
  assert precious.read_text() == 'the real images' and len(list(tmp_path.iterdir())) == 1
  precious.unlink()
  command.main(flags)
  command.main([*flags, '--seed=1'])  # its own folder
  assert '--seed=1' in (tmp_path / 'README.txt').read_text()
  with pytest.raises(UserError, match='not made by this command: .* use a new folder'):
    command.main(['--release=imagenet_ab', *flags[1:]])
