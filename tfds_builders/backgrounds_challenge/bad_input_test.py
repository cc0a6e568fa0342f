"""backgrounds_challenge: bad input is left out and counted; mistakes are one line."""

import io
import json
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from luab_jax.errors import UserError
from tfds_builders import build_summary
from tfds_builders.backgrounds_challenge import release, small_release
from tfds_builders.backgrounds_challenge.backgrounds_challenge_dataset_builder_test import (
  build_and_load,
  check_foregrounds,
  summary,
)
from tfds_builders.backgrounds_challenge.small_release import MAPPING, SIZE

pytestmark = pytest.mark.slow

FILES = small_release.files()
DOG = 'val/00_dog/n0_0'


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
  'objects': (lambda path: trapped(path), 'it is not an npy file: Object arrays'),
  'pickle': (lambda path: pickle.dumps(Trap(path)), 'it is not an npy file'),
  'npz': (lambda _: ZIP.getvalue(), 'it is not an npy file'),
  'cut off': (lambda _: small_release.npy(MASK)[:-5], 'it is not an npy file'),
  'empty': (lambda _: b'', 'it is not an npy file: No data'),
  'transposed': (lambda _: small_release.npy(MASK.T), 'it has 24 × 32 px, its image 32 × 24'),
  'channels': (lambda _: small_release.npy(np.dstack([MASK] * 3)), 'it is a 3-D bool array'),
  'text': (lambda _: small_release.npy(np.full(SIZE[::-1], '1')), 'it is a 2-D <U1 array'),
  '255': (lambda _: small_release.npy(255 * MASK), 'other values than 0 and 1'),
  'half': (lambda _: small_release.npy(0.5 * MASK), 'other values than 0 and 1'),
  'nan': (lambda _: small_release.npy(np.nan * MASK), 'other values than 0 and 1'),
  'claims terabytes': (
    lambda _: small_release.npy(MASK).replace(b'(24, 32), ', b'(9**9,9**9)'),
    'it is not an npy file',
  ),
}


@pytest.mark.parametrize('kind', BAD_MASKS)
def test_bad_masks_are_refused_and_never_executed(tmp_path, kind):
  make, message = BAD_MASKS[kind]
  with pytest.raises(release.BadMask, match=message):
    release.read_mask(make(tmp_path / 'executed'), SIZE[::-1])
  assert not (tmp_path / 'executed').exists()
  # The trap works: it springs where pickles are trusted.
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
  with pytest.raises(UserError, match=r'6 of 27 are bad \(.*fraction of 0\.01.*LUAB_MAX_BAD_SHARE'):
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
    f'fg_mask/{DOG}.npy: it is not an npy file: Object arrays',
    '01_bird/n1_1.JPEG: Truncated',
    '02_wheeled vehicle/n2_2.JPEG: left',
    '03_reptile/n3_7.npy: left',
    '04_carnivore/n4_0.JPEG: it is not a JPEG',
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
  'no object': (_mapping([0] * 1000), f'is not a JSON object of ImageNet classes: .* {AGAIN}'),
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
