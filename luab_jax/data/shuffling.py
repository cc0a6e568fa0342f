"""In which order training sees the records of a split, and which of them a host has to read.

An epoch is cut into lanes, so that a host reads only those that its rows come from. With N records,
global batches of B rows and V lanes of b = B / V rows each: the files are shuffled and put one
after the other; the last F B records, F = N // B, are cut into V lanes of F b records; each lane
passes through a shuffle buffer of its own. Then F rounds take b records of every lane in turn, and
the N - F B records before the lanes come last, shuffled too:

  position k B + v b + i of an epoch is record k b + i of lane v    (k < F, v < V, i < b)

(A TFRecord file is read from its beginning. With the rest in front, lanes of files of one size
begin soon after the beginning of a file; with it behind, they would begin near the end of one.)

The order is a function of (seed, epoch, split, B, buffer size), whatever the number of hosts. Of H
hosts each reads V / H lanes, one more where an epoch does not begin with a batch, and what is left.
A split that fits into the buffer is one lane and nothing is left: it is shuffled as a whole.
"""

from typing import NamedTuple

import tensorflow as tf

from luab_jax.data import tfrecords

# More would be more open files and no better mixed; a batch holds records of this many places.
MAX_LANES = 64
# At least. Where a lane begins within a file, what the file has before it is read for nothing.
_FILES_PER_LANE = 4
_READERS = 16  # lanes that are read at the same time


class Rows(NamedTuple):
  """Which rows of each global batch are the host's: contiguous ones."""

  batch_size: int  # global, a multiple of num_hosts
  num_hosts: int = 1
  host: int = 0

  @property
  def count(self):
    return self.batch_size // self.num_hosts

  @property
  def first(self):
    return self.host * self.count


def shuffled(split, seed, rows, *, start_step, buffer_size):
  """The endless stream of a host's records, each of the N once an epoch over all hosts.

  Row r of step s is number g = s B + r of the stream of epochs: position g % N of epoch g // N.

  Args:
    split: tfrecords.Split of N records.
    seed: a stateless seed, int64[2].
    rows: Rows.
    start_step: int, global step to begin at. What the host's lanes have before it in its epoch is
      read and dropped undecoded.
    buffer_size: int, records, over all lanes.

  Returns:
    tf.data.Dataset of (epoch int64, position in the epoch int64, index int64, record string).
  """
  size, total = rows.batch_size, split.num_examples
  lanes = num_lanes(total, len(split.paths), size, buffer_size)
  block = size // lanes
  length = total if lanes == 1 else total // size * block
  rest = total - lanes * length
  start_epoch, position = divmod(start_step * size, total)
  done = min(position // size, length // block)  # rounds before the start

  @tf.autograph.experimental.do_not_convert  # plain ops: conversion only costs start-up time
  def epoch_records(epoch):
    """(epoch, position, index, record) of the host's lanes in their turns, then of the rest."""
    # Dataset.shuffle mixes the global seed in: fix it in this function's own graph, so that
    # somebody's tf.random.set_seed does not change the order. (TensorFlow trips over a 0 here.)
    tf.compat.v1.set_random_seed(1)
    file_seed, record_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, epoch)))
    files = _shuffled_files(split, file_seed)
    skipped = tf.where(epoch == start_epoch, tf.constant(done * block, tf.int64), 0)

    def part(lane, first, count, buffer):
      """Records [first, first + count) of the epoch's files, shuffled, with their numbers there."""
      chosen = _part(files, first, count).apply(tf.data.experimental.assert_cardinality(count))
      return chosen.shuffle(
        buffer, seed=tf.cast(record_seed[0], tf.int64) + lane, reshuffle_each_iteration=False
      )

    def lane_records(lane):
      buffer = min(max(buffer_size // lanes, 1), length)
      chosen = part(lane, rest + lane * length, length, buffer)
      return (
        chosen.skip(skipped)
        .enumerate(skipped)
        .map(lambda k, record: (epoch, k // block * size + lane * block + k % block, *record))
      )

    stream = tf.data.Dataset.from_tensor_slices(_lanes_of_host(epoch, total, lanes, rows))
    most = min(lanes, -(-rows.count // block) + 1)
    stream = stream.interleave(
      lane_records,
      cycle_length=most,
      block_length=block,
      num_parallel_calls=min(_READERS, most),
      deterministic=True,
    )
    if rest:
      last = part(lanes, 0, rest, rest).enumerate(total - rest)
      stream = stream.concatenate(last.map(lambda at, record: (epoch, at, *record)))
    return stream

  stream = tf.data.Dataset.counter(start_epoch).flat_map(epoch_records)
  stream = tfrecords.rows_of_host(
    stream, size, rows.num_hosts, rows.host, lambda epoch, at, *_: epoch * total + at
  )
  return stream.skip(_rows_before(position - done * size, rows))


def num_lanes(num_examples, num_files, batch_size, buffer_size):
  """How many lanes an epoch has: a divisor of the batch size; see above."""
  if num_examples <= max(buffer_size, batch_size):
    return 1
  most = max(min(MAX_LANES, num_files // _FILES_PER_LANE), 1)
  return max(v for v in range(1, most + 1) if batch_size % v == 0)


def _lanes_of_host(epoch, num_examples, num_lanes, rows):
  """int64[...]: the lanes with records of a host's rows in an epoch, ascending."""
  block = rows.batch_size // num_lanes
  # The host's rows are `count` neighbours on a circle of batch_size positions, from here on.
  first = (rows.first - epoch * num_examples) % rows.batch_size
  needed = tf.minimum((first % block + rows.count - 1) // block + 1, num_lanes)
  return tf.sort((first // block + tf.range(needed)) % num_lanes)


def _rows_before(distance, rows):
  """How many of a host's rows are among the last `distance` < batch_size rows of a batch."""
  return max(rows.first + rows.count - max(rows.first, rows.batch_size - distance), 0)


def _shuffled_files(split, seed):
  """(path, skip, take, first index, end) of each file in a random order; `end`: records so far."""
  order = tf.argsort(tf.random.stateless_uniform([len(split.paths)], seed))
  columns = (split.paths, split.skip, split.take, split.first)
  path, skip, take, first = (tf.gather(tf.constant(column), order) for column in columns)
  return path, skip, take, first, tf.cumsum(take)


def _part(files, first, count):
  """Records [first, first + count) of files that follow each other: (index, record)."""
  path, skip, take, index, end = files
  before = tf.maximum(first - (end - take), 0)  # records of a file before the part
  kept = tf.minimum(end, first + count) - (end - take) - before
  columns = (path, skip + before, kept, index + before)
  return tf.data.Dataset.from_tensor_slices(
    tuple(tf.boolean_mask(column, kept > 0) for column in columns)
  ).flat_map(tfrecords.read)
