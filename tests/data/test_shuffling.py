"""The order of training records: the same for any number of hosts, each reading its share."""

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


@pytest.mark.parametrize(
  ('batch', 'buffer', 'shards'),
  [(16, 10, 4), (24, 30, 4), (12, 1, 4), (16, 500, 1), (200, 10, 1), (11, 10, 1), (10, 10, 5)],
)
def test_each_record_once_an_epoch_in_another_order(split, batch, buffer, shards):
  total = split.num_examples
  assert shuffling.num_shards(total, len(SIZES), batch, buffer) == shards
  found = numbers(split, batch, -(-3 * total // batch), buffer=buffer)[: 3 * total]
  assert [row[:2] for row in found] == [divmod(number, total) for number in range(3 * total)]
  epochs = [[row[2] for row in found[e * total : (e + 1) * total]] for e in range(3)]
  assert all(sorted(epoch) == list(range(total)) for epoch in epochs)
  assert len(set(map(tuple, epochs))) == 3
  again = numbers(split, batch, 2, buffer=buffer, seed=1)
  assert again != found[: len(again)]


@pytest.mark.parametrize(('batch', 'buffer'), [(16, 10), (24, 30), (12, 1), (16, 500), (144, 10)])
@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_share_one_order(split, batch, buffer, hosts):
  if batch % hosts:
    pytest.skip('the batch does not divide evenly')
  steps = 3 * split.num_examples // batch + 2
  alone = numbers(split, batch, steps, buffer=buffer)
  parts = [numbers(split, batch, steps, hosts=hosts, host=h, buffer=buffer) for h in range(hosts)]
  rows = batch // hosts
  together = [
    row for step in range(steps) for part in parts for row in part[step * rows : (step + 1) * rows]
  ]
  assert together == alone


@pytest.mark.parametrize(('batch', 'buffer'), [(24, 30), (16, 500), (144, 10)])
@pytest.mark.parametrize(('hosts', 'host'), [(1, 0), (4, 2)])
def test_a_stream_starts_anywhere(split, batch, buffer, hosts, host):
  steps = 2 * split.num_examples // batch + 3
  whole = numbers(split, batch, steps, hosts=hosts, host=host, buffer=buffer)
  for start in range(1, steps, 3 if batch < 100 else 1):
    rest = numbers(split, batch, steps - start, hosts=hosts, host=host, start=start, buffer=buffer)
    assert rest == whole[start * batch // hosts :], start


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
  ('sizes', 'share', 'whole'),
  [([100] * 32, 0.45, 1.05), ([100, 101] * 16, 0.45, 1.05), ([100] * 31 + [37], 0.55, 1.25)],
)
def test_hosts_read_little_more_than_their_share(tmp_path, monkeypatch, sizes, share, whole):
  """Counts every record read from a file, including those that are skipped."""
  seen = []

  def read(path, skip, take, first):
    raw = tf.data.TFRecordDataset(path).map(
      lambda record: tf.numpy_function(lambda r: seen.append(r) or r, [record], tf.string)
    )
    return raw.skip(skip).take(take).enumerate(first)

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
  for host in range(hosts):
    seen.clear()
    numbers(split, batch, rounds, hosts=hosts, host=host, buffer=12)
    # Two or three of eight shards, the remainder, parts of files, and some read-ahead.
    assert len(seen) < share * split.num_examples
  seen.clear()
  numbers(split, batch, rounds, buffer=12)
  assert len(seen) < whole * split.num_examples


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
