"""backgrounds_challenge: TFDS's own checks, every value, every oddity, and the command lines."""

import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from luab_jax.errors import UserError
from tfds_builders import build, build_summary
from tfds_builders.backgrounds_challenge import (
  backgrounds_challenge_dataset_builder,
  release,
  small_release,
)
from tfds_builders.backgrounds_challenge.small_release import CLASSES, MAPPING, SIZE

FILES = small_release.files()
DOG = 'val/00_dog/n0_0'


def build_and_load(manual_dir, data_dir, config):
  """Builds and returns {split: {file name: example}} with the JPEGs undecoded."""
  path = build.build(f'backgrounds_challenge/{config}', manual_dir=manual_dir, data_dir=data_dir)
  builder = tfds.builder_from_directory(path)  # as without the builder's code
  assert builder.info.features['label'].names == list(CLASSES)
  splits = builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()})
  return {
    split: {row['file_name'].decode(): row for row in tfds.as_numpy(rows)}
    for split, rows in splits.items()
  }


def summary(capsys, config):
  """Returns the counts of the printed summary."""
  text = capsys.readouterr().out.split(f'Summary of backgrounds_challenge/{config}\n')[1]
  return dict(
    line.strip().rsplit(maxsplit=1) for line in text.splitlines() if line.startswith('  ')
  )


class VariationsTest(tfds.testing.DatasetBuilderTestCase):
  """TFDS's checks of `variations`, from the archive."""

  DATASET_CLASS = backgrounds_challenge_dataset_builder.Builder
  BUILDER_CONFIG_NAMES_TO_TEST = ['variations']
  SPLITS = dict.fromkeys(release.VARIATIONS, 27)

  @classmethod
  def setUpClass(cls):
    cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
    small_release.write_archive(pathlib.Path(cls.EXAMPLE_DIR), FILES)
    super().setUpClass()


class ForegroundsTest(VariationsTest):
  """TFDS's checks of `foregrounds`."""

  BUILDER_CONFIG_NAMES_TO_TEST = ['foregrounds']
  SPLITS = {'test': 27}


def check_label(row, label):
  assert row['label'] == label
  expected = [int(index) for index, value in MAPPING.items() if value == label]
  np.testing.assert_array_equal(row['right_labels'], expected)


def check_variations(rows):
  assert sorted(rows) == sorted(release.VARIATIONS)
  for variation in release.VARIATIONS:
    assert len(rows[variation]) == 27
    for label, name in enumerate(CLASSES):
      for index in range(3):
        row = rows[variation][f'{name}/n{label}_{index}.JPEG']
        assert row['image'] == small_release.paint(variation, label, index)
        assert sorted(row) == ['file_name', 'image', 'label', 'right_labels']
        check_label(row, label)


def check_foregrounds(rows, missing=()):
  assert list(rows) == ['test']
  painted = {
    f'{name}/n{label}_{index}.JPEG': (label, index)
    for label, name in enumerate(CLASSES)
    for index in range(3)
  }
  assert sorted(rows['test']) == sorted(painted.keys() - set(missing))
  for file_name, row in rows['test'].items():
    label, index = painted[file_name]
    assert row['image'] == small_release.paint('original', label, index)
    assert row['mask'].dtype == np.uint8
    np.testing.assert_array_equal(row['mask'][..., 0], 255 * small_release.foreground(label, index))
    check_label(row, label)


LAYOUTS = {
  'as released': lambda raw: small_release.write_archive(raw, FILES),
  'tar without a top folder': lambda raw: small_release.write_archive(raw, FILES, leading=''),
  'tar of ./, masks first': lambda raw: small_release.write_archive(
    raw, dict(reversed(FILES.items())), leading='./some folder/'
  ),
  'unpacked': lambda raw: small_release.write_folder(raw, FILES),
  'unpacked without a top folder': lambda raw: small_release.write_folder(raw, FILES, leading=''),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_value_is_kept_from_every_layout(tmp_path, capsys, layout):
  raw = LAYOUTS[layout](tmp_path / 'raw')
  if layout != 'unpacked without a top folder':
    check_foregrounds(build_and_load(raw, tmp_path / 'data', 'foregrounds'))
    assert summary(capsys, 'foregrounds') == {
      'images read': '27',
      'masks read': '27',
      'images written': '27',
      'skipped': '0',
    }
  if layout in ('as released', 'unpacked without a top folder'):
    check_variations(build_and_load(raw, tmp_path / 'data', 'variations'))
    assert summary(capsys, 'variations') == {
      'images read': '216',
      'images written': '216',
      'skipped': '0',
    }
  left = [path for path in tmp_path.rglob('*') if path.is_file() and 'raw' not in path.parts]
  assert not [path for path in left if path.suffix in ('.JPEG', '.npy')], 'extracted to disk'


def test_what_is_none_of_the_release_is_passed_over(tmp_path, capsys):
  """One refused and one given twice of 217 are below the accepted share of 1 %."""
  raw = small_release.write_archive(
    tmp_path / 'raw',
    {
      **FILES,
      'original/val/00_dog/._n0_0.JPEG': b'\x00\x05\x16\x07',
      'original/val/00_dog/notes.txt': b'notes',
      'in9l/val/00_dog/n0_0.JPEG': b'no image',
      'original/val/n0_0.JPEG': b'no image',
      f'deep/er/original/{DOG}.JPEG': b'no image',
      f'../original/{DOG}.JPEG': b'no image',
      f'./original/{DOG}.JPEG': b'no image',
    },
    leading='',
  )
  check_variations(build_and_load(raw, tmp_path / 'data', 'variations'))
  assert summary(capsys, 'variations') == {
    'images read': '217',
    'images written': '216',
    'skipped: refused member': '1',
    'skipped: file given twice': '1',
    'other files, left out': '4',
  }


class Trap:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self._path = str(path)

  def __reduce__(self):
    return pathlib.Path.touch, (pathlib.Path(self._path),)


def trapped(path):
  return small_release.npy(np.array([Trap(path)], object))


def png():
  file = io.BytesIO()
  Image.new('RGB', SIZE).save(file, 'PNG')
  return file.getvalue()


MASK = small_release.foreground(0, 0)
ZIP = io.BytesIO()
np.savez(ZIP, mask=MASK)
BAD_MASKS = {
  'objects': (lambda path: trapped(path), 'it is no npy file: Object arrays'),
  'pickle': (lambda path: pickle.dumps(Trap(path)), 'it is no npy file'),
  'npz': (lambda _: ZIP.getvalue(), 'it is no npy file'),
  'cut off': (lambda _: small_release.npy(MASK)[:-5], 'it is no npy file'),
  'empty': (lambda _: b'', 'it is no npy file: No data'),
  'transposed': (lambda _: small_release.npy(MASK.T), 'it has 24 × 32 px, its image 32 × 24'),
  'channels': (lambda _: small_release.npy(np.dstack([MASK] * 3)), 'it is 3-D of bool'),
  'text': (lambda _: small_release.npy(np.full(SIZE[::-1], '1')), 'it is 2-D of <U1'),
  '255': (lambda _: small_release.npy(255 * MASK), 'other values than 0 and 1'),
  'half': (lambda _: small_release.npy(0.5 * MASK), 'other values than 0 and 1'),
  'nan': (lambda _: small_release.npy(np.nan * MASK), 'other values than 0 and 1'),
  'claims terabytes': (
    lambda _: small_release.npy(MASK).replace(b'(24, 32), ', b'(9**9,9**9)'),
    'it is no npy file',
  ),
}


@pytest.mark.parametrize('kind', BAD_MASKS)
def test_bad_masks_are_refused_and_never_executed(tmp_path, kind):
  make, message = BAD_MASKS[kind]
  with pytest.raises(release.BadMask, match=message):
    release.read_mask(make(tmp_path / 'executed'), SIZE[::-1])
  assert not (tmp_path / 'executed').exists()
  # The trap is one: it springs where pickles are trusted.
  np.load(io.BytesIO(trapped(tmp_path / 'executed')), allow_pickle=True)
  assert (tmp_path / 'executed').exists()


def oddities(path):
  changed = {
    **FILES,
    f'fg_mask/{DOG}.npy': trapped(path),
    'original/val/01_bird/n1_1.JPEG': FILES['original/val/01_bird/n1_1.JPEG'][:-40],
    'original/val/04_carnivore/n4_0.JPEG': png(),
    'fg_mask/val/03_reptile/n3_7.npy': FILES['fg_mask/val/03_reptile/n3_0.npy'],
    '../outside.JPEG': b'outside',
  }
  del changed['fg_mask/val/02_wheeled vehicle/n2_2.npy']
  return changed


def test_bad_input_is_named_counted_and_left_out(tmp_path, monkeypatch, caplog, capsys):
  raw = small_release.write_archive(tmp_path / 'raw', oddities(tmp_path / 'executed'))
  with pytest.raises(UserError, match=r'6 of 27 are bad \(.*share of 0\.01.*LUAB_MAX_BAD_SHARE'):
    build_and_load(raw, tmp_path / 'data', 'foregrounds')
  assert not list((tmp_path / 'data').rglob('*.tfrecord*')), 'a half-built data set was left'
  monkeypatch.setenv(build_summary.MAX_BAD_SHARE_VARIABLE, '0.3')
  caplog.clear()
  capsys.readouterr()
  check_foregrounds(
    build_and_load(raw, tmp_path / 'data', 'foregrounds'),
    missing=(
      '00_dog/n0_0.JPEG',
      '01_bird/n1_1.JPEG',
      '02_wheeled vehicle/n2_2.JPEG',
      '04_carnivore/n4_0.JPEG',
    ),
  )
  assert summary(capsys, 'foregrounds') == {
    'images read': '27',
    'masks read': '27',
    'images written': '23',
    'skipped: bad mask': '1',
    'skipped: image without a mask': '1',
    'skipped: mask without an image': '1',
    'skipped: refused member': '1',
    'skipped: undecodable image': '2',
  }
  for place in (
    f'fg_mask/{DOG}.npy: it is no npy file: Object arrays',
    '01_bird/n1_1.JPEG: Truncated',
    '02_wheeled vehicle/n2_2.JPEG: left',
    '03_reptile/n3_7.npy: left',
    '04_carnivore/n4_0.JPEG: it is no JPEG',
    '../outside.JPEG: its name points out',
  ):
    assert sum(place in message for message in caplog.messages) == 1, place
  assert not (tmp_path / 'executed').exists() and not list(tmp_path.rglob('outside.JPEG'))


def _without(part):
  return lambda raw: small_release.write_archive(
    raw, {name: data for name, data in FILES.items() if part not in name}
  )


def _mapping(text):
  return lambda raw: (raw / release.MAPPING_NAME).write_text(
    text if isinstance(text, str) else json.dumps(text)
  )


def _cut(raw):
  path = raw / release.ARCHIVE_NAME
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _two_folders(raw):
  (raw / release.ARCHIVE_NAME).unlink()
  for name in 'ab':
    (raw / name / 'original' / 'val').mkdir(parents=True)


AGAIN = 'again from https://github.com/MadryLab/backgrounds_challenge/'
MISTAKES = {
  'no archive': (
    lambda raw: (raw / release.ARCHIVE_NAME).unlink(),
    'data.tar.gz is missing: get .* from https://github.com/MadryLab/.*/releases/',
  ),
  'no mapping': (
    lambda raw: (raw / release.MAPPING_NAME).unlink(),
    'in_to_in9.json is missing: get .* from https://github.com/MadryLab/',
  ),
  'empty folder': (lambda raw: [path.unlink() for path in raw.iterdir()], 'does not exist or is'),
  'cut off': (_cut, f'data.tar.gz is truncated or damaged .* {AGAIN}'),
  'two releases': (_two_folders, '/a and .*/b are both an unpacked'),
  'no masks': (_without('fg_mask'), f'holds no fg_mask/val/<class>/<file>: .* {AGAIN}'),
  'no originals': (_without('original'), f'holds no original/val/<class>/<file>: .* {AGAIN}'),
  'eight classes': (_without('08_fish'), 'holds 8 class folders .*00_dog.*07_primate.* 9'),
  'masks of eight classes': (_without('fg_mask/val/05'), f'holds no fg_mask/val/05_in.* {AGAIN}'),
  'ten classes': (
    lambda raw: small_release.write_archive(raw, {**FILES, 'original/val/09_house/n9_0.JPEG': b''}),
    'holds 10 class folders',
  ),
  'no JSON': (_mapping('{"0": 8,'), f'in_to_in9.json cannot be read .* {AGAIN}'),
  'deep JSON': (_mapping('[' * 10**5), f'in_to_in9.json cannot be read .* {AGAIN}'),
  'no object': (_mapping([0] * 1000), f'is no JSON object of ImageNet classes: .* {AGAIN}'),
  'class 1000': (_mapping({**MAPPING, '1000': 0}), f"maps '1000' to 0, .* {AGAIN}"),
  'class 01': (_mapping({**MAPPING, '01': 0}), f"maps '01' to 0, .* {AGAIN}"),
  'label 9': (_mapping({**MAPPING, '5': 9}), f"maps '5' to 9, .* {AGAIN}"),
  'label true': (_mapping({**MAPPING, '5': True}), f"maps '5' to True, .* {AGAIN}"),
  'label unused': (
    _mapping({name: label for name, label in MAPPING.items() if label != 4}),
    f'maps no ImageNet class to the label 4: .* {AGAIN}',
  ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_one_line_with_the_remedy(tmp_path, mistake):
  make, message = MISTAKES[mistake]
  raw = small_release.write_archive(tmp_path / 'raw', FILES)
  make(raw)
  with pytest.raises(UserError, match=message) as error:
    build_and_load(raw, tmp_path / 'data', 'foregrounds')
  assert '\n' not in str(error.value)


def test_the_command_line_builds_and_any_folder_loads(tmp_path, capsys):
  """`tfds_builders.build`, in this process for speed; then `tfds.load` without our code."""
  raw = small_release.write_archive(tmp_path / 'raw', FILES)
  assert (
    build.main(
      ['backgrounds_challenge/variations', f'--manual_dir={raw}', f'--data_dir={tmp_path / "data"}']
    )
    == 0
  )
  assert summary(capsys, 'variations')['images written'] == '216'
  script = (
    'import sys, tensorflow_datasets as tfds\n'
    'splits, info = tfds.load("backgrounds_challenge/variations", data_dir="data", '
    'with_info=True)\n'
    'rows = list(tfds.as_numpy(splits["only_bg_t"]))\n'
    'names = info.features["right_labels"].feature.names\n'
    'print(len(splits), len(rows), {row["image"].shape for row in rows}, len(names), names[0])\n'
    'assert not any(name.startswith(("luab_jax", "tfds_builders")) for name in sys.modules)'
  )
  done = _run('-c', script, cwd=tmp_path)
  assert done.stdout.splitlines()[:1] == ['8 27 {(24, 32, 3)} 1000 n01440764'], done.stderr[-3000:]


def test_a_mistake_on_the_command_line(tmp_path):
  done = _run(
    '-m',
    'tfds_builders.build',
    'backgrounds_challenge/foregrounds',
    f'--manual_dir={tmp_path / "absent"}',
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'see tfds_builders/backgrounds_challenge/README.md' in done.stderr


def _run(*args, cwd):
  return subprocess.run(
    [sys.executable, *args],
    cwd=cwd,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'PYTHONPATH': ''},
  )
