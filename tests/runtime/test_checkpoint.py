"""Checkpoints: round trip, retention, damaged files."""

import math
import pathlib

import numpy as np
import pytest

from luab_jax.errors import UserError
from luab_jax.runtime import checkpoint
from luab_jax.runtime.checkpoint import Checkpoints


def _tree(value):
  return {
    'kernel': np.full((64, 65), value, np.float32),
    'step': np.int32(value),
    'empty': {},
    'nested': [np.arange(5, dtype=np.int64) + value],
  }


def _saved(directory, steps, keep=9):
  checkpoints = Checkpoints(directory, keep=keep)
  for step in steps:
    checkpoints.save(step, _tree(step), {'step': step, 'words': ['a', {'b': 0.1 + 0.2}]})
  checkpoints.close()
  return directory


def _restore(directory):
  checkpoints = Checkpoints(directory, keep=9)
  try:
    return checkpoints.restore(_tree(0))
  finally:
    checkpoints.close()


def _step(restored):
  state, metadata = restored
  assert metadata['words'] == ['a', {'b': 0.1 + 0.2}]
  assert int(state['step']) == metadata['step'] and state['empty'] == {}
  for saved, wanted in zip(
    (state['kernel'], state['nested'][0]),
    (_tree(metadata['step'])['kernel'], _tree(metadata['step'])['nested'][0]),
    strict=True,
  ):
    np.testing.assert_array_equal(saved, wanted)
    assert saved.dtype == wanted.dtype
  return metadata['step']


def test_the_newest_comes_back_bit_for_bit(tmp_path):
  assert _restore(tmp_path / 'none') is None
  assert _step(_restore(_saved(tmp_path, [1, 5, 7]))) == 7


def test_the_newest_stay(tmp_path):
  _saved(tmp_path, [2, 4, 6, 8, 10, 11], keep=2)
  assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [10, 11]


def _with_results(directory, values, **options):
  checkpoints = Checkpoints(directory, keep=1, **options)
  for step, value in enumerate(values, start=1):
    if value is not None:
      checkpoints.rate(step, {'validation': {'top1': value, 'examples': 40}})
    checkpoints.save(step, _tree(step), {'step': step, 'words': ['a', {'b': 0.1 + 0.2}]})
  checkpoints.close()
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


@pytest.mark.parametrize(
  ('options', 'stay'),
  [
    ({'best': 'validation/top1'}, [3, 6]),
    ({'best': '-validation/top1'}, [4, 6]),
    ({'keep_every': 2}, [2, 4, 6]),
    ({}, [6]),
    ({'keep_every': 5, 'best': 'validation/top1'}, [3, 5, 6]),
  ],
)
def test_the_best_and_every_kth_stay_and_the_newest_always(tmp_path, options, stay):
  # The newest, step 6, is never the best, and step 5 was not evaluated.
  assert _with_results(tmp_path, [0.5, 0.6, 0.9, 0.1, None, 0.3], **options) == stay
  assert _step(_restore(tmp_path)) == 6


def test_the_best_stays_also_after_another_start(tmp_path):
  assert _with_results(tmp_path, [0.5, 0.9, 0.1], best='validation/top1') == [2, 3]
  results = {step: {'validation': {'top1': v}} for step, v in enumerate([0.5, 0.9, 0.1], start=1)}
  results[0] = {'other': {'top1': 1.0}}  # from a config with other splits
  checkpoints = Checkpoints(tmp_path, keep=1, best='validation/top1', results=results)
  for step in (4, 5):
    checkpoints.save(step, _tree(step), {'step': step})
  checkpoints.close()
  assert sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()) == [2, 5]


def test_a_metric_that_does_not_exist_cannot_be_the_best(tmp_path):
  with pytest.raises(UserError, match="keep_best='val/top1': no such.* there are validation/top1"):
    _with_results(tmp_path, [0.5], best='val/top1')


def test_saves_are_due_at_intervals_and_where_the_best_is_known(tmp_path):
  plain = Checkpoints(tmp_path, keep=1, save_every=5)
  best = Checkpoints(tmp_path, keep=1, save_every=5, best='validation/top1')
  for checkpoints in (plain, best):
    checkpoints.rate(4, {'validation': {'top1': 0.5}})
    checkpoints.rate(7, {'validation': {'top1': math.nan}})
  assert [plain.is_due(step) for step in (4, 5, 6, 7)] == [False, True, False, False]
  assert [best.is_due(step) for step in (4, 5, 6, 7)] == [True, True, False, False]
  plain.close()
  best.close()


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path):
  _saved(tmp_path / 'run', [1, 2])
  checkpoints = Checkpoints(tmp_path / 'run', keep=9)
  (tmp_path / 'run').rename(tmp_path / 'gone')
  (tmp_path / 'run').write_text('a file where the folder was')
  with pytest.raises(UserError, match='could not be saved in .*run .*earlier ones are intact'):
    checkpoints.save(3, _tree(3), {'step': 3})
    checkpoints.close()
  assert _step(_restore(tmp_path / 'gone')) == 2


def test_no_save_starts_without_room_for_it(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, keep=2)
  checkpoints.save(1, {'a': np.zeros(3)}, {})
  usage = checkpoint.shutil.disk_usage(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.shutil, 'disk_usage', lambda _: usage._replace(free=1 << 20))
    with pytest.raises(
      UserError, match='4.0 MiB are needed, but 1.0 MiB are free.*free some disk space'
    ):
      checkpoints.save(2, {'a': np.zeros(3 << 17)}, {})
  checkpoints.close()
  assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == ['1']


def _flip_a_byte(folder):
  # The array data are in the largest file; Orbax restores it without complaint.
  file = max((p for p in folder.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def _truncate(folder):
  for file in (folder / 'state').rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove_note(folder):
  for file in (folder / 'metadata').iterdir():
    file.unlink()


def _break_json(folder):
  next(p for p in (folder / 'metadata').iterdir() if p.is_file()).write_text('{"arrays": {')


def _empty(folder):
  for file in sorted(folder.rglob('*'), reverse=True):
    file.rmdir() if file.is_dir() else file.unlink()


@pytest.mark.parametrize('damage', [_flip_a_byte, _truncate, _remove_note, _break_json, _empty])
def test_damage_is_noticed_and_the_checkpoint_before_is_used(tmp_path, damage, capfd):
  _saved(tmp_path, [1, 2])
  damage(tmp_path / '2')
  assert _step(_restore(tmp_path)) == 1
  assert 'checkpoint 2 is skipped' in capfd.readouterr().err
  assert [p.name for p in (tmp_path / 'damaged').iterdir()] == ['2_0']  # moved, not deleted
  assert _step(_restore(_saved(tmp_path, [2, 3]))) == 3  # later saves work
  assert pathlib.Path(tmp_path / '2').is_dir()


def test_all_kinds_of_damage_at_once(tmp_path, capfd):
  _saved(tmp_path, range(1, 8))
  for step, damage in zip(
    range(7, 2, -1), (_flip_a_byte, _truncate, _remove_note, _break_json, _empty), strict=True
  ):
    damage(tmp_path / str(step))
  (tmp_path / '8.orbax-checkpoint-tmp').mkdir()  # an interrupted save
  (tmp_path / '8.orbax-checkpoint-tmp' / 'state').mkdir()
  assert _step(_restore(tmp_path)) == 2
  said = capfd.readouterr().err
  assert [f'checkpoint {step} is skipped' in said for step in range(3, 8)] == [True] * 5
  assert sorted(p.name[0] for p in (tmp_path / 'damaged').iterdir()) == list('34567')
  assert _step(_restore(_saved(tmp_path, [8]))) == 8


def test_all_damaged_is_one_clear_message(tmp_path):
  _saved(tmp_path, [1, 2])
  _flip_a_byte(tmp_path / '1')
  _empty(tmp_path / '2')
  with pytest.raises(UserError, match='all 2 checkpoints .* damaged'):
    _restore(tmp_path)


@pytest.mark.parametrize(
  'change', [{'kernel': np.zeros((64, 66), np.float32)}, {'another': np.zeros(3)}]
)
def test_a_checkpoint_of_another_model_is_refused_and_stays(tmp_path, change):
  _saved(tmp_path, [1])
  checkpoints = Checkpoints(tmp_path, keep=9)
  with pytest.raises(UserError, match='another model'):
    checkpoints.restore(_tree(0) | change)
  checkpoints.close()
  assert _step(_restore(tmp_path)) == 1


def test_a_checkpoint_without_a_part_that_is_empty_now_is_restored(tmp_path):
  _saved(tmp_path, [1])
  checkpoints = Checkpoints(tmp_path, keep=9)
  state, _ = checkpoints.restore(_tree(0) | {'a later version': {}})
  checkpoints.close()
  assert state['a later version'] == {} and int(state['step']) == 1


def test_a_damaged_checkpoint_that_cannot_be_moved_is_one_clear_message(tmp_path):
  _saved(tmp_path, [1, 2])
  _flip_a_byte(tmp_path / '2')
  (tmp_path / 'damaged').write_text('a file where the folder should be')
  with pytest.raises(UserError, match='checkpoint 2 cannot be moved to .*damaged'):
    _restore(tmp_path)
