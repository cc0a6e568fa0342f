"""Short form of tests.stress.fuzz, and checks that it would notice broken readers."""

import collections
import time

import pytest

from luab_jax.byproducts import coco_ab, imagenet_ab
from luab_jax.byproducts.archives import reader
from luab_jax.byproducts.imagenet_ab import parse_xml
from luab_jax.data import image_files
from tests.stress.fuzz import __main__ as command
from tests.stress.fuzz import inputs, runner
from tests.stress.fuzz.outcome import Outcome

INPUTS = {
  'ImageNet-AB XML': 800,
  'COCO-AB records': 150,
  'COCO instances': 150,
  'tar, tar.gz': 300,
  'zip': 250,
  'JPEG, PNG, BMP, GIF': 250,
  'npy mask': 300,
  'in_to_in9.json': 60,
  'imagenet_ab build': 60,
}


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return inputs.Corpus(tmp_path_factory.mktemp('corpus'))


@pytest.fixture(autouse=True)
def builds_go_on(monkeypatch):
  monkeypatch.setenv('LUAB_MAX_BAD_SHARE', '1')


def run(kind, corpus, tmp_path, inputs, seed=1):
  return runner.run_kind(kind, inputs, seed, corpus, tmp_path / 'files')


@pytest.mark.filterwarnings('ignore')  # Pillow and NumPy warn about some kinds of damage
@pytest.mark.parametrize('kind', runner.KINDS)
def test_no_input_crashes_hangs_or_is_lost(corpus, tmp_path, kind):
  result = run(kind, corpus, tmp_path, INPUTS[kind])
  assert not result.violations
  assert result.inputs == INPUTS[kind]
  assert result.records_in == result.records_out + result.skipped.total()
  # The test is meaningful only if some records are read and some are not.
  assert result.records_out and (result.refused or result.skipped)


def crash(data):
  if b'<selected>maybe' in data or b'NaN' in data:
    raise KeyError('x')
  return parse_xml(data)


def lose_a_click(data):
  record = parse_xml(data)
  return record._replace(clicks=imagenet_ab.EMPTY.clicks)


def lose_a_record(path, **options):
  records = list(READ_RECORDS(path, **options))
  return records[:1] + [r._replace(number=n) for n, r in enumerate(records[2:], 1)]


def lose_a_member(path, **options):
  return list(ITER_MEMBERS(path, **options))[:1]


def hang(data):
  if b'&' in data:
    while True:
      time.process_time()
  return parse_xml(data)


READ_RECORDS, ITER_MEMBERS = coco_ab.read_records, reader.iter_members
BROKEN = {
  'crash': ('ImageNet-AB XML', imagenet_ab, 'parse_xml', crash, 'KeyError'),
  'lost click': ('ImageNet-AB XML', imagenet_ab, 'parse_xml', lose_a_click, 'given, 0 read'),
  'hang': ('ImageNet-AB XML', imagenet_ab, 'parse_xml', hang, 'TooSlow'),
  'lost record': ('COCO-AB records', coco_ab, 'read_records', lose_a_record, 'records in|is lost'),
  'lost member': ('tar, tar.gz', reader, 'iter_members', lose_a_member, 'good|records in'),
  'size': ('JPEG, PNG, BMP, GIF', image_files, 'image_size', lambda _: (1, 1), 'another size'),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_reader_is_noticed(corpus, tmp_path, monkeypatch, name):
  kind, module, function, broken, message = BROKEN[name]
  monkeypatch.setattr(module, function, broken)
  inputs = 80
  if name == 'hang':  # other threads of this process count towards the limit
    inputs = 40
    monkeypatch.setattr(runner, 'CPU_LIMIT', 0.2)
  result = run(kind, corpus, tmp_path, inputs)
  words = '\n'.join(what for _, what in result.violations)
  assert any(word in words for word in message.split('|')), words[:2000]


def test_inputs_come_again(corpus, tmp_path):
  """The input that is written for a violation is the one the reader got, in any process."""
  again = inputs.Corpus(tmp_path)
  for kind in runner.KINDS:
    for number in range(5):
      assert runner.make_input(kind, number, 3, corpus) == runner.make_input(kind, number, 3, again)


def test_a_process_that_dies_is_a_violation_with_its_input(tmp_path, monkeypatch):
  """A segmentation fault raises no exception: the parent reads the input's number elsewhere."""

  class Dead:
    returncode = -11

    def __init__(self, *_, **__):
      (tmp_path / 'progress').write_bytes((41).to_bytes(8, 'little'))

    def poll(self):
      return self.returncode

  monkeypatch.setattr(command.subprocess, 'Popen', Dead)
  result = command.supervise('zip', 100, 0, tmp_path)
  assert result.violations == [[41, 'the process died, status -11: ']]


def test_counts_that_do_not_add_up_are_a_violation():
  outcome = Outcome(records_in=3, records_out=1, skipped=collections.Counter(a=1))
  with pytest.raises(AssertionError, match='3 records in, 1 out, 1 skipped'):
    runner.Result().add(outcome)
