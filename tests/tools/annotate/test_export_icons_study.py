"""Which answers of an icons study are exported, and how several become one record."""

import json
import zipfile

import pytest

from luab_jax.byproducts import coco_ab
from luab_jax.tools.annotate import events as ev
from luab_jax.tools.annotate import voting
from tests.tools.annotate import recorded
from tests.tools.annotate.small_studies import CATS, WORKERS, batches, icons_study


@pytest.fixture
def icons(tmp_path):
  return icons_study(tmp_path)


def _put(*icons, start=100.0):
  return [ev.Put(start + k, c, 'mouse', x, y) for k, (c, x, y) in enumerate(icons)]


def test_the_same_study_of_icons_gives_the_same_bytes(icons, tmp_path):
  for number, path in enumerate(CATS):
    icons.answer(icons.add_page([path]), number, batches(1, *_put((0, 0.2, 0.1 * number))))
  first, second = icons.export(tmp_path / 'a'), icons.export(tmp_path / 'b')
  files = sorted({path.name for path in first.iterdir()} - {'README.txt', '.written.json'})
  assert {'coco_ab_v1_0.json', 'answers.jsonl.gz', 'train2014.zip', 'val2014.zip'} <= set(files)
  for name in files:
    assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_of_several_answers_the_one_nearest_to_the_majority_is_the_record(icons, tmp_path):
  pages = [icons.add_page([path]) for path in CATS]
  answers = [
    [(0, 0.2, 0.2)],
    [(0, 0.5, 0.5), (1, 0.1, 0.9)],
    [(0, 0.5, 0.52), (1, 0.1, 0.9), (2, 1, 1)],
  ]
  for worker, placed in enumerate(answers):
    icons.answer(pages[0], worker, batches(1, *_put(*placed)))
  icons.answer(pages[1], 3, batches(1, *_put((2, -0.01, 0.5))))
  out = icons.export(tmp_path / 'out')
  record, other = coco_ab.read_records(out / 'coco_ab_v1_0.json')
  assert (record.worker_id, record.shown_width, record.shown_height) == (WORKERS[1], 300, 200)
  assert len(record.hit_id) == 32 and other.worker_id == WORKERS[3]
  with zipfile.ZipFile(out / 'annotations_trainval2014.zip') as archive:
    content = [
      json.loads(archive.read(f'annotations/instances_{s}2014.json')) for s in ('train', 'val')
    ]
  boxes = {
    (row['image_id'], row['category_id']): row['bbox']
    for part in content
    for row in part['annotations']
  }
  # The point closest to the others wins the vote; points outside the image move to its border.
  assert boxes == {
    (record.image_id, 1): [24, 16, 0, 0],
    (record.image_id, 2): [pytest.approx(4.8), pytest.approx(28.8), 0, 0],
    (other.image_id, 3): [0, 16, 0, 0],
  }
  assert [[i['used'] for i in line['images']] for line in recorded.read_sidecar(out)[1]] == [
    [False], [True], [False], [True]
  ]  # fmt: skip


def test_instances_of_the_user_are_kept_and_judge_the_points(icons, tmp_path, capsys):
  content = {
    'images': [
      {'id': n, 'file_name': p, 'height': 32, 'width': 48} for n, p in enumerate(CATS[:3])
    ],
    'annotations': [
      {'id': n, 'image_id': n, 'category_id': 7, 'bbox': [12, 8, 24, 16]} for n in range(3)
    ],
    'categories': [{'id': 7, 'name': 'cup'}],
  }
  (tmp_path / 'coco.json').write_text(json.dumps(content))
  for path, x in zip(CATS, (0.5, 0.05, 0.5, 0.5), strict=True):
    icons.answer(icons.add_page([path]), 0, batches(1, *_put((0, x, 0.5))), state='done')
  out = icons.export(tmp_path / 'out', f'--coco={tmp_path}/coco.json')
  assert len(list(coco_ab.read_records(out / 'coco_ab_v1_0.json'))) == 3
  features = [line['features'] for line in recorded.read_sidecar(out)[1]]
  assert [(f['boxed'], f['in_box'], f['gold_found']) for f in features] == [
    (1, 1, 1), (1, 0, 1), (1, 1, 1), (0, 0, 0)
  ]  # fmt: skip
  said = capsys.readouterr().out
  assert '1  image not in the instances file, skipped' in said and '3  icons kept' in said


def test_votes():
  assert voting.most_voted({'a': [True, False], 'b': [True, True, False]}) == 'b'
  assert voting.most_voted({'b': [True], 'a': [True], 'c': []}) == 'a'
  assert voting.most_voted({'a': [True, False]}) == voting.most_voted({}) == ''
  answers = [{1: (0.0, 0.0)}, {1: (0.1, 0.0), 2: (1.0, 1.0)}, {1: (1.0, 0.0)}]
  assert voting.majority(answers) == {1: (0.1, 0.0)}
  assert voting.majority([{1: (0.0, 0.0)}, {}]) == {}
  assert voting.nearest(answers, {1: (0.1, 0.0)}) == 0
  assert voting.nearest(answers[1:], {1: (0.1, 0.0)}) == 1
