"""The order of training records: the same for any number of hosts, each reading its share."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data import shuffling, tfrecords
from luab_jax.data.rows import Rows

pytestmark = pytest.mark.slow

SIZES = [7, 3, 1, 8, 6, 5, 9, 4, 2, 6, 3, 5, 7, 1, 4, 6, 8, 3, 9, 2, 5, 6]  # records per file: 110


@pytest.fixture(scope='module')
def split(tmp_path_factory):
  """A tfrecords.Split of numbered records; the first two in each file belong to another split."""
  folder = tmp_path_factory.mktemp('order')
  take = np.array(SIZES, np.int64)
  first = np.cumsum(take) - take
  paths = [str(folder / f'{i}.tfrecord') for i in range(len(SIZES))]
  for path, start, count in zip(paths, first, take, strict=True):
    with tf.io.TFRecordWriter(path) as writer:
      for text in ['another', "split's", *map(str, range(start, start + count))]:
        writer.write(text)
  return tfrecords.Split('train', str(folder), int(take.sum()), paths, 0 * take + 2, take, first)


def numbers(split, batch, count, *, hosts=1, host=0, start=0, buffer=10, seed=0):
  """[(epoch, position, index)] of a host's first `count` steps from `start`, each index checked."""
  stream = shuffling.shuffled(
    split, tfrecords.fold(seed, 0), Rows(batch, hosts, host), start_step=start, buffer_size=buffer
  ).with_options(tfrecords.deterministic_options())
  found = []
  for epoch, position, index, record in stream.take(count * batch // hosts).as_numpy_iterator():
    assert int(record) == index
    found.append((int(epoch), int(position), int(index)))
  return found


@pytest.fixture(scope='module')
def alone(split):
  """Cached function (batch, buffer) -> the `numbers` of three epochs on a single host."""

  @functools.cache
  def cached(batch, buffer):
    return numbers(split, batch, -(-3 * split.num_examples // batch), buffer=buffer)

  return cached


@pytest.mark.parametrize(
  ('batch', 'buffer', 'shards'),
  [(16, 10, 4), (24, 30, 4), (12, 1, 4), (16, 500, 1), (200, 10, 1), (11, 10, 1), (10, 10, 5)],
)
def test_each_record_once_an_epoch_in_another_order(split, alone, batch, buffer, shards):
  total = split.num_examples
  assert shuffling.num_shards(total, len(SIZES), batch, buffer) == shards
  found = alone(batch, buffer)[: 3 * total]
  assert [row[:2] for row in found] == [divmod(number, total) for number in range(3 * total)]
  epochs = [[row[2] for row in found[e * total : (e + 1) * total]] for e in range(3)]
  assert all(sorted(epoch) == list(range(total)) for epoch in epochs)
  assert len(set(map(tuple, epochs))) == 3


@pytest.mark.parametrize(('batch', 'buffer'), [(16, 10), (16, 500)])
def test_the_order_depends_on_the_seed(split, alone, batch, buffer):
  other = numbers(split, batch, 2, buffer=buffer, seed=1)
  assert other != alone(batch, buffer)[: len(other)]


@pytest.mark.parametrize(
  ('batch', 'buffer', 'hosts', 'starts'),
  [
    (16, 10, 2, ()),
    (12, 1, 2, ()),
    (24, 30, 4, (1, 4, 7)),  # in the first epoch, at its remainder, in the second epoch
    (16, 500, 4, (3, 9)),
    (200, 10, 4, (1,)),
  ],
)
def test_hosts_share_one_order_and_start_anywhere(split, alone, batch, buffer, hosts, starts):
  steps, rows = 2 * split.num_examples // batch + 1, batch // hosts  # into a third epoch
  expected = alone(batch, buffer)[: steps * batch]
  for host in range(hosts):
    mine = [row for at, row in enumerate(expected) if at % batch // rows == host]
    assert numbers(split, batch, steps, hosts=hosts, host=host, buffer=buffer) == mine
    for start in starts if host == 2 else ():
      count = min(4, steps - start)
      rest = numbers(split, batch, count, hosts=hosts, host=host, start=start, buffer=buffer)
      assert rest == mine[start * rows :][: count * rows], start


@pytest.mark.parametrize('start', [2, 4, 9])
def test_a_single_host_starts_anywhere(split, alone, start):
  rest = numbers(split, 24, 4, start=start, buffer=30)
  assert rest == alone(24, 30)[24 * start :][: 24 * 4]


@given(
  st.integers(0, 5),
  st.integers(1, 3000),
  st.sampled_from([1, 2, 4, 8]),
  st.integers(1, 40),
  st.data(),
)
@settings(max_examples=200, deadline=None)
def test_a_host_reads_the_shards_of_its_rows_and_no_others(epoch, total, hosts, per_host, data):
  batch = hosts * per_host
  shards = data.draw(st.sampled_from([v for v in range(1, 65) if batch % v == 0]))
  host = data.draw(st.integers(0, hosts - 1))
  rows = Rows(batch, hosts, host)
  mine = [at for at in range(batch) if (epoch * total + at) % batch // per_host == host]
  expected = sorted({at // (batch // shards) for at in mine})
  plan = shuffling._Epoch(total, batch, shards, batch // shards, 0, 0, 0)
  got = shuffling._shards_of_host(plan, rows, tf.constant(epoch, tf.int64))
  assert got.numpy().tolist() == expected


@pytest.mark.parametrize(
  ('sizes', 'share', 'whole'), [([100, 101] * 16, 0.45, 1.05), ([100] * 31 + [37], 0.55, 1.25)]
)
def test_hosts_read_little_more_than_their_share(tmp_path, monkeypatch, sizes, share, whole):
  """Counts every record read from a file, including those that are skipped."""
  seen = tf.Variable(0)

  def counted(record):
    seen.assign_add(1)
    return record

  def read(path, skip, take, first):
    return tf.data.TFRecordDataset(path).map(counted).skip(skip).take(take).enumerate(first)

  monkeypatch.setattr(tfrecords, 'read', read)
  take = np.array(sizes, np.int64)
  first = np.cumsum(take) - take
  paths = [str(tmp_path / f'{i}.tfrecord') for i in range(len(sizes))]
  for path, start, count in zip(paths, first, take, strict=True):
    with tf.io.TFRecordWriter(path) as writer:
      for number in range(start, start + count):
        writer.write(str(number))
  split = tfrecords.Split('train', str(tmp_path), int(take.sum()), paths, 0 * take, take, first)
  batch, hosts = 32, 4
  assert shuffling.num_shards(split.num_examples, len(sizes), batch, 12) == 8
  rounds = split.num_examples // batch
  for host in (0, 2):
    seen.assign(0)
    numbers(split, batch, rounds, hosts=hosts, host=host, buffer=12)
    # Two or three of eight shards, the remainder, parts of files, and some read-ahead.
    assert share * 0.5 < seen.numpy() / split.num_examples < share
  seen.assign(0)
  numbers(split, batch, rounds, buffer=12)
  assert 0.9 < seen.numpy() / split.num_examples < whole


def test_a_file_that_is_too_short_is_noticed(split):
  short = split._replace(take=split.take + 3, num_examples=split.num_examples + 3 * len(SIZES))
  with pytest.raises(tf.errors.FailedPreconditionError):
    numbers(short, 16, 10)


def test_a_batch_holds_records_from_many_places(split):
  """Shards are far apart and files reordered every epoch, so no batch comes from a single file."""
  found = numbers(split, 12, 9, buffer=1)
  files = np.searchsorted(split.first, [row[2] for row in found], side='right') - 1
  for step in range(9):
    assert len(set(files[12 * step : 12 * step + 12])) >= 4
  assert len(set(files)) > 15  # of 22; two records are left for the end of the epoch
