"""coco_ab: bad input is skipped and counted; mistakes are one line with the remedy."""

import json
import shutil
import zipfile

import pytest

from luab_jax.byproducts import coco_ab
from luab_jax.errors import UserError
from tfds_builders.build_summary import MAX_BAD_SHARE_VARIABLE
from tfds_builders.coco_ab.small_release import RECORDS, build, jpeg, write_release

pytestmark = pytest.mark.slow


BAD_RECORDS = json.dumps(RECORDS[:2]).replace('"timeAt": 10', '"timeAt": 1.5')  # image 9


@pytest.mark.parametrize(
  ('reason', 'detail', 'changes', 'left'),
  [
    ('corrupt record', 'record 1 (image_id 9)', {'records': BAD_RECORDS}, [9, 25, 30]),
    (
      'corrupt record',
      'record 1 (image_id 9): Expected `float` <= 1000.0 - at `$.actionHistories[0].pointTo.x`',
      {'records': json.dumps(RECORDS).replace('0.5', '1e9')},
      [9, 25, 30],
    ),
    (
      'duplicate record',
      'record 0: image_id 25 occurs again',
      {'records': [*RECORDS, RECORDS[0]]},
      [9, 25, 30],
    ),
    (
      'undecodable image',
      'train2014.zip: train2014/COCO_train2014_000000000025.jpg',
      {
        'images': {
          'train2014': {'train2014/COCO_train2014_000000000025.jpg': jpeg(25, (40, 40))[:-99]}
        }
      },
      [9, 30],
    ),
    (
      'not in the instances file',
      'train2014.zip: train2014/other.jpg',
      {'images': {'train2014': {'train2014/other.jpg': jpeg(1, (8, 8))}}},
      [9, 25, 30],
    ),
    (
      'image given twice',
      'train2014.zip: again/COCO_train2014_000000000009.jpg',
      {'images': {'train2014': {'again/COCO_train2014_000000000009.jpg': b'another'}}},
      [9, 25, 30],
    ),
    (
      'refused member',
      '../outside.jpg',
      {'images': {'train2014': {'../outside.jpg': jpeg(1, (8, 8))}}},
      [9, 25, 30],
    ),
  ],
)
def test_bad_input_is_named_counted_and_skipped(
  tmp_path, monkeypatch, caplog, capsys, reason, detail, changes, left
):
  release = write_release(tmp_path / 'raw', **changes)
  with pytest.raises(UserError, match=f'1 × {reason}'):
    build(release, tmp_path / 'strict')
  assert not list((tmp_path / 'strict').rglob('*.tfrecord*'))
  monkeypatch.setenv(MAX_BAD_SHARE_VARIABLE, '0.5')
  examples = build(release, tmp_path / 'lenient')
  assert sorted(examples['train']) == left and sorted(examples['validation']) == [42]
  assert examples['train'][9]['has_record'] == (reason != 'corrupt record')
  assert any(detail in record.getMessage() for record in caplog.records)
  assert f'skipped: {reason} 1' in ' '.join(capsys.readouterr().out.split())


def test_failures_are_one_line_with_a_remedy(tmp_path):
  release = write_release(tmp_path / 'raw')

  def failing(match):
    with pytest.raises(UserError, match=match) as error:
      build(release, tmp_path / 'data')
    assert '\n' not in str(error.value)

  whole = (release / 'train2014.zip').read_bytes()
  (release / 'train2014.zip').write_bytes(whole[: len(whole) // 2])
  failing('train2014.zip is truncated or damaged .* get it again from http://images.coco')
  (release / 'train2014.zip').write_bytes(whole)
  records = (release / coco_ab.FILE_NAME).read_bytes()
  (release / coco_ab.FILE_NAME).write_bytes(records[:-50])
  failing('coco_ab_v1_0.json .*truncated.* get it again from https://huggingface.co')
  (release / coco_ab.FILE_NAME).unlink()
  failing('coco_ab_v1_0.json is missing: get coco_ab_v1_0.json from https://huggingface.co')
  shutil.rmtree(release)
  failing('does not exist or is empty.* give --manual_dir a folder with train2014.zip')


def test_an_archive_without_a_listed_image_is_one_line(tmp_path, monkeypatch):
  release = write_release(tmp_path / 'raw')
  monkeypatch.setenv(MAX_BAD_SHARE_VARIABLE, '1')
  with zipfile.ZipFile(release / 'val2014.zip', 'w') as archive:
    archive.writestr('val2014/other.jpg', b'')
  with pytest.raises(
    UserError,
    match=r'^\S*val2014.zip holds no usable image that annotations/inst'
    r'ances_val2014.json lists: get it again from http://images.coco\S*$',
  ):
    build(release, tmp_path / 'data')
