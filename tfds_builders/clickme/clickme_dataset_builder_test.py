"""clickme: every value of a built example, bad input, and the download."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import build
from tfds_builders.clickme import download, release
from tfds_builders.clickme.small_release import blob, jpeg, painted, picture, record, write

pytestmark = pytest.mark.slow

SHARDS = {
  'train-0': [painted(0.3, 0.6, 7), painted(0.8, 0.2, 999)],
  'train-2': [painted(0.5, 0.5, 0)],
  'val-1': [painted(0.1, 0.9, 3)],
}


def build_local(raw, data_dir):
  path = build.build('clickme/local', manual_dir=raw, data_dir=data_dir)
  return tfds.builder_from_directory(path)  # without the builder's code


def rows(builder, split, **options):
  found = tfds.as_numpy(builder.as_dataset(split, **options))
  return {row['file_name'].decode(): row for row in found}


def test_all_of_a_record_is_kept(tmp_path, capsys):
  builder = build_local(write(tmp_path / 'raw', SHARDS), tmp_path / 'data')
  skip = tfds.decode.SkipDecoding()
  train = rows(builder, 'train', decoders={'image': skip, 'heatmap': skip})
  assert sorted(train) == ['train-0/0', 'train-0/1', 'train-2/0']
  row = train['train-0/1']
  assert row['label'] == 999
  assert row['image'] == jpeg(picture(0.8, 0.2))
  assert row['heatmap'] == jpeg(blob(0.8, 0.2))
  (validation,) = rows(builder, 'validation').values()
  assert validation['image'].shape == (256, 256, 3)
  assert validation['heatmap'].shape == (256, 256, 1)
  place = np.unravel_index(validation['heatmap'].argmax(), (256, 256))
  assert np.abs(np.add(place, 0.5) / 256 - (0.9, 0.1)).max() < 0.02
  names = builder.info.features['label'].names
  assert names[0] == 'n01440764' and len(names) == 1000
  assert '  images written             4\n' in capsys.readouterr().out


def test_bad_records_are_named_and_left_out(tmp_path, capsys, caplog, monkeypatch):
  monkeypatch.setenv('LUAB_MAX_BAD_SHARE', '0.9')
  image, heat = jpeg(picture(0.5, 0.5)), jpeg(blob(0.5, 0.5))
  bad = [
    (record(image, heat, 1000), 'label 1000 is outside 0 to 999'),
    (
      record(image, image, 1),
      'heatmap has 256 × 256 pixels and 3 channels, expected 256 × 256 and 1',
    ),
    (record(jpeg(picture(0.5, 0.5)[:200]), heat, 1), 'image has 256 × 200 pixels'),
    (record(image[:500], heat, 1), 'image: '),
    (record(image, b'', 1), 'heatmap: '),
    (b'no record', 'it does not hold one image'),
  ]
  raw = write(tmp_path / 'raw', {'train-0': [*(data for data, _ in bad), painted(0.5, 0.5, 1)]})
  builder = build_local(raw, tmp_path / 'data')
  assert list(rows(builder, 'train')) == ['train-0/6']
  assert 'skipped: bad record' in capsys.readouterr().out
  for number, (_, why) in enumerate(bad):
    assert f'train-0.tfrecords: record {number}: {why}' in caplog.text


def test_missing_and_damaged_shards_are_one_line(tmp_path, capsys):
  raw = write(tmp_path / 'raw', SHARDS)
  args = [f'--manual_dir={raw}', f'--data_dir={tmp_path / "data"}']
  assert build.main(['clickme/released', *args]) == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert said.startswith(f'error: {raw}/train/train-1.tfrecords is missing (2 of 318 shards')
  assert f'python -m tfds_builders.clickme.download --out={raw}' in said
  shard = raw / 'train/train-0.tfrecords'
  shard.write_bytes(shard.read_bytes()[:-100])
  assert build.main(['clickme/local', *args]) == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert said.startswith(f'error: {shard} is damaged or incomplete: delete it')
  (tmp_path / 'none/train').mkdir(parents=True)
  args[0] = f'--manual_dir={tmp_path / "none"}'
  assert build.main(['clickme/local', *args]) == 2
  assert 'none has no train/train-0.tfrecords or val' in capsys.readouterr().err


def test_the_download_gets_what_is_missing_and_says_what_is_not_known(
  tmp_path, capsys, monkeypatch
):
  server = write(tmp_path / 'server', {name: [b'x'] for name in ('train-0', 'train-1', 'val-0')})
  monkeypatch.setattr(release, 'SHARDS', {'train': 2, 'val': 1})
  out = tmp_path / 'raw'
  (out / 'train').mkdir(parents=True)
  (out / 'train/train-1.tfrecords').write_text('mine')
  assert download.download(out, url=server.as_uri()) == 2
  assert (out / 'train/train-1.tfrecords').read_text() == 'mine'
  for name in ('train/train-0', 'val/val-0'):
    name = f'{name}.tfrecords'
    assert (out / name).read_bytes() == (server / name).read_bytes()
  (out / 'val/val-0.tfrecords').unlink()
  (server / 'val/val-0.tfrecords').unlink()
  monkeypatch.setattr(download.download, '__kwdefaults__', {'url': server.as_uri()})
  assert download.main([f'--out={out}']) == 2
  said = capsys.readouterr()
  assert 'could not find the licence' in said.out
  assert said.err.startswith('error: ') and 'run the command again' in said.err
  assert release.find(out, complete=False).keys() == {'train'}
