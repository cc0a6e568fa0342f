"""Which answers and images of a study are exported, and how the rest is reported."""

import csv
import gzip
import io
import json
import tarfile

import msgspec
import pytest

from luab_jax.errors import UserError
from luab_jax.tools.annotate import events as ev
from tests.tools.annotate import recorded
from tests.tools.annotate.small_studies import (
  CATS,
  DOGS,
  WORKERS,
  Study,
  batches,
  grid_study,
  icons_study,
)

FILES = ('imagenet_ab_v1_0.tar.gz', 'answers.jsonl.gz', 'ILSVRC2012_img_train.tar')


@pytest.fixture
def grid(tmp_path):
  return grid_study(tmp_path)


def _selected(slots, *selected, unseen=(), extra=()):
  ons = [ev.On(100.0 + s, s, 'mouse', 0.25, 0.5) for s in selected]
  return batches(slots, *ons, *extra, unseen=unseen)


def _images(out):
  """{'SPLIT/CLASS/NAME': bytes} of the exported images."""
  found = {}
  for split in ('train', 'val'):
    with tarfile.open(out / f'ILSVRC2012_img_{split}.tar') as outer:
      for member in outer:
        with tarfile.open(fileobj=io.BytesIO(outer.extractfile(member).read())) as inner:
          for image in inner:
            name = f'{split}/{member.name.removesuffix(".tar")}/{image.name}'
            found[name] = inner.extractfile(image).read()
  return found


def _problems(out):
  with open(out / 'problems.csv', newline='') as file:
    return {row['problem'] for row in csv.DictReader(file)}


def test_rejected_and_unfinished_answers_are_in_the_sidecar_alone(grid, tmp_path, capsys):
  page = grid.add_page(CATS, 'cat')
  practice = grid.add_page(DOGS, 'dog', kind='practice')
  grid.answer(page, 0, _selected(4, 0))
  grid.answer(page, 1, _selected(4, 1), state='rejected', verdict='rejected')
  grid.add_answer(page, WORKERS[2], _selected(4, 2), state='expired')
  grid.answer(practice, 3, _selected(3, 1))
  out = grid.export(tmp_path / 'out')
  assert {b.worker_id for r in recorded.read_xmls(out).values() for b in r.blocks} == {WORKERS[0]}
  _, lines = recorded.read_sidecar(out)
  assert [(line['worker_id'], line['state']) for line in lines] == [
    (WORKERS[0], 'accepted'),
    (WORKERS[1], 'rejected'),
    (WORKERS[2], 'unfinished'),
  ]
  assert [[image['used'] for image in line['images']] for line in lines] == [
    [True] * 4,
    [False] * 4,
    [False] * 4,
  ]
  said = capsys.readouterr().out
  assert '1  answer accepted' in said and '1  answer unfinished, only in answers.jsonl.gz' in said
  assert '4  images in the study' in said and '1  click kept' in said


def test_a_grid_as_it_is_in_the_release(grid, tmp_path):
  page = grid.add_page([*CATS, DOGS[0]], 'cat', gold={4: 0, 0: 1})
  grid.add_page(DOGS, 'dog')
  grid.answer(page, 0, _selected(5, 0, 4))
  grid.answer(page, 1, _selected(5, 0), hit='7E90AC')
  out = grid.export(tmp_path / 'out')
  found = _images(out)
  assert {name.partition('/')[2] for name in found} == {*CATS, *DOGS}
  assert all(found[n] == (grid.images / n.partition('/')[2]).read_bytes() for n in found)
  assert sorted(name.split('/')[1] for name in found if name.startswith('val')) == ['cat', 'dog']
  xmls = recorded.read_xmls(out)
  # The dog was shown as a candidate cat: clicks on it as a cat do not annotate a dog.
  assert xmls.keys() == {f'train_xml/{path.removesuffix(".png")}.xml' for path in CATS}
  blocks = xmls['train_xml/cat/0.xml'].blocks
  assert [len(block.hit_id) for block in blocks] == [30, 30]
  assert blocks[0].hit_id != blocks[1].hit_id and '7E90AC' not in blocks[1].hit_id
  with tarfile.open(out / 'imagenet_ab_v1_0.tar.gz') as tar:
    text = tar.extractfile('train_xml/cat/0.xml').read().decode()
  assert 'hoveredCount' not in text
  head, lines = recorded.read_sidecar(out)
  assert head['classes'] == ['cat', 'dog'] and head['task'] == 'grid'
  dog = lines[0]['images'][4]
  assert (dog['file'], dog['gold'], dog['used']) == (DOGS[0], False, False)
  assert dog['release'] in found
  assert lines[0]['features']['gold_false'] == 1
  assert lines[1]['hit_id'] == blocks[1].hit_id


def test_voted_labels_leave_out_what_most_did_not_select(grid, tmp_path, capsys):
  page = grid.add_page([*CATS, DOGS[0]], 'cat')
  other = grid.add_page(DOGS, 'dog')
  for worker, selected in enumerate([(0, 1, 4), (0, 2, 4), (0, 1)]):
    grid.answer(page, worker, _selected(5, *selected))
  grid.answer(other, 3, _selected(3, 1, 2))
  out = grid.export(tmp_path / 'out', '--labels=voted')
  # The first dog was selected as a cat by two of three, and as a dog by nobody.
  assert {n.partition('/')[2] for n in _images(out)} == {
    'cat/0.png', 'cat/1.png', 'cat/dog_0.png', 'dog/1.png', 'dog/2.png'
  }  # fmt: skip
  assert len(recorded.read_xmls(out)['train_xml/cat/dog_0.xml'].blocks) == 3
  assert '2  images not selected by most workers, skipped' in capsys.readouterr().out


def test_a_reported_or_unseen_image_is_never_exported_with_size_0(grid, tmp_path, capsys):
  page = grid.add_page(CATS, 'cat')
  grid.answer(page, 0, _selected(4, 0, unseen=[1], extra=[ev.Broken(200, 2)]))
  out = grid.export(tmp_path / 'out')
  assert recorded.read_xmls(out).keys() == {'train_xml/cat/0.xml', 'train_xml/cat/3.xml'}
  assert [image['seen'] for image in recorded.read_sidecar(out)[1][0]['images']] == [
    True,
    False,
    False,
    True,
  ]
  assert '2  showings of an image that was reported or never loaded' in capsys.readouterr().out


def test_an_original_that_changed_is_reported_and_left_out(grid, tmp_path):
  grid.answer(grid.add_page([*CATS, *DOGS], 'cat'), 0, _selected(7, 0))
  (grid.images / CATS[0]).write_bytes((grid.images / DOGS[0]).read_bytes())
  (grid.images / CATS[1]).unlink()
  out = grid.export(tmp_path / 'out')
  assert _problems(out) == {
    'image changed since it was annotated, skipped',
    'image unreadable, skipped',
  }
  assert len(_images(out)) == 5 and 'train_xml/cat/0.xml' not in recorded.read_xmls(out)


def test_the_same_study_gives_the_same_bytes(grid, tmp_path):
  page = grid.add_page(CATS, 'cat')
  for worker in range(3):
    grid.answer(page, worker, _selected(4, worker))
  first, second = grid.export(tmp_path / 'a'), grid.export(tmp_path / 'b')
  assert [(first / f).read_bytes() == (second / f).read_bytes() for f in FILES] == [True] * 3
  grid.export(first)  # into the same folder again
  assert (first / FILES[1]).read_bytes() == (second / FILES[1]).read_bytes()


def test_raw_traces_are_thinned_for_the_release_alone(tmp_path):
  recorded.paint(tmp_path / 'images', CATS)
  study = Study(tmp_path / 'study', tmp_path / 'images', 'grid', ['cat'], track='raw')
  for path in CATS:
    study.add_image(path, 'cat')
  moves = [ev.Move(10 + 4.0 * n, 0, n / 1000, 0.5) for n in range(1000)]  # 250 a second
  study.answer(study.add_page(CATS, 'cat'), 0, _selected(4, extra=[ev.Enter(9, 0), *moves]))
  out = study.export(tmp_path / 'out')
  times = recorded.read_xmls(out)['train_xml/cat/0.xml'].trace.time_ms
  assert 200 <= len(times) <= 241 and min(times[1:] - times[:-1]) >= 0
  events = [e for batch in recorded.read_sidecar(out)[1][0]['batches'] for e in batch['events']]
  assert [e['x'] for e in events if e['e'] == 'move'] == [n / 1000 for n in range(1000)]


@pytest.mark.parametrize(
  ('make', 'options', 'message'),
  [
    (grid_study, ['--coco=x.json'], '--coco is for studies of the task icons'),
    (icons_study, ['--labels=voted'], '--labels is for studies of the task grid'),
    (icons_study, ['--coco_validation=x.json'], 'needs --coco'),
    (grid_study, ['--validation_fraction=1'], 'must be between 0 and 1'),
    (grid_study, [], 'has no accepted answer yet'),
  ],
)
def test_mistakes_are_one_line(make, options, message, tmp_path):
  study = make(tmp_path)
  with pytest.raises(UserError, match=message):
    study.export(tmp_path / 'out', *options)


def test_folders_of_something_else_stay_as_they_are(grid, tmp_path):
  grid.answer(grid.add_page(CATS, 'cat'), 0, _selected(4, 0))
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full/thesis.txt').write_text('x')
  for out in ('full', 'images', 'study'):
    before = sorted(path.name for path in (tmp_path / out).rglob('*'))
    with pytest.raises(UserError):
      grid.export(tmp_path / out)
    assert sorted(path.name for path in (tmp_path / out).rglob('*')) == before
  with pytest.raises(UserError, match='holds no study'):
    Study.export(type('', (), {'folder': tmp_path / 'images'}), tmp_path / 'out')


def test_one_image_of_a_class_leaves_nothing_to_validate_on(tmp_path):
  recorded.paint(tmp_path / 'images', CATS[:1])
  study = Study(tmp_path / 'study', tmp_path / 'images', 'grid', ['cat'])
  study.add_image(CATS[0], 'cat')
  study.answer(study.add_page(CATS[:1], 'cat'), 0, _selected(1, 0))
  with pytest.raises(UserError, match='no usable images for validation'):
    study.export(tmp_path / 'out')


def test_nothing_says_who_somebody_is(grid, tmp_path):
  page = grid.add_page(CATS, 'cat')
  grid.answer(page, 0, _selected(4, 0), hit='HIT3XYZ')
  out = grid.export(tmp_path / 'out')
  with gzip.open(out / 'answers.jsonl.gz', 'rt') as file:
    text = file.read()
  assert (
    'HIT3XYZ' not in text
    and str(tmp_path) not in text
    and 'tab' not in json.loads(text.splitlines()[1])['batches'][0]
  )
  assert msgspec.json.decode(text.splitlines()[1])['worker_id'] == WORKERS[0]
