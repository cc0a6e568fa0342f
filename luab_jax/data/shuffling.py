"""The order of a split's records in training, and which of them each host has to read.

An epoch is cut into epoch shards, so that a host reads only those that its rows come from. With N
records, global batches of B rows, and V shards that give b = B / V rows to each batch: the files
are shuffled and concatenated; the last F B records, F = N // B, are cut into V shards of F b
records; each shard has its own shuffle buffer. Then F rounds take b records from every shard in
turn, and the N - F B records before the shards come last, shuffled too:

  position k B + v b + i of an epoch is record k b + i of shard v    (k < F, v < V, i < b)

(A TFRecord file has to be read from its beginning. With the remainder in front, the shards of files
of equal size begin near the beginning of a file; with it at the end, they would begin near the end
of one.)

The order is a function of (seed, epoch, split, B, buffer size), whatever the number of hosts. Each
of H hosts reads V / H shards (one more if the epoch does not begin at a batch boundary) and the
remainder. A split that fits into the buffer is one shard without a remainder: a full shuffle.
"""

from typing import NamedTuple

import tensorflow as tf

from luab_jax.data import tfrecords
from luab_jax.data.rows import Rows

# A batch has records from this many places; more would open more files without mixing better.
MAX_SHARDS = 64
# At least: where a shard begins within a file, everything before it in the file is read in vain.
_FILES_PER_SHARD = 4
_READERS = 16  # shards that are read in parallel

# (path, skip, take, first index, end) of each file, in shuffled order; end: cumulative sum of take
_Files = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


class _Epoch(NamedTuple):
  """How an epoch is cut, see the module docstring."""

  total: int  # N
  batch_size: int  # B
  shards: int  # V
  block: int  # b, rows of a batch from one shard
  length: int  # F b, records of a shard
  rest: int  # records before the shards
  buffer: int  # records in a shard's shuffle buffer


def shuffled(
  split: tfrecords.Split, seed: tf.Tensor, rows: Rows, *, start_step: int, buffer_size: int
) -> tf.data.Dataset:
  """The endless stream of a host's records; over all hosts, each of the N occurs once per epoch.

  Row r of step s is number g = s B + r of the stream of epochs: position g % N of epoch g // N.

  Args:
    split: of N records.
    seed: a stateless seed, int64[2].
    rows: of the host.
    start_step: global step to begin at. Earlier records of its epoch in the host's shards are read
      and dropped undecoded.
    buffer_size: size of the shuffle buffers of all shards together, in records.

  Returns:
    Dataset of (epoch int64, position in the epoch int64, index int64, record string).
  """
  plan = _plan(split, rows.batch_size, buffer_size)
  start_epoch, position = divmod(start_step * plan.batch_size, plan.total)
  done = min(position // plan.batch_size, plan.length // plan.block)  # rounds before the start

  @tf.autograph.experimental.do_not_convert  # plain ops: conversion only costs start-up time
  def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
    # Dataset.shuffle mixes the global seed in: fix it in this function's own graph, so that a
    # user's tf.random.set_seed does not change the order. (TensorFlow mishandles a 0 here.)
    tf.compat.v1.set_random_seed(1)
    file_seed, record_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, epoch)))
    files = _shuffled_files(split, file_seed)
    skipped = tf.where(epoch == start_epoch, tf.constant(done * plan.block, tf.int64), 0)
    return _epoch_records(plan, rows, epoch, files, tf.cast(record_seed[0], tf.int64), skipped)

  stream = tf.data.Dataset.counter(start_epoch).flat_map(epoch_records)
  stream = rows.select(stream, lambda epoch, at, *_: epoch * plan.total + at)
  return stream.skip(_rows_before(position - done * plan.batch_size, rows))


def _plan(split: tfrecords.Split, batch_size: int, buffer_size: int) -> _Epoch:
  total = split.num_examples
  shards = num_shards(total, len(split.paths), batch_size, buffer_size)
  block = batch_size // shards
  length = total if shards == 1 else total // batch_size * block
  buffer = min(max(buffer_size // shards, 1), length)
  return _Epoch(total, batch_size, shards, block, length, total - shards * length, buffer)


def num_shards(num_examples: int, num_files: int, batch_size: int, buffer_size: int) -> int:
  """The number of epoch shards, a divisor of the batch size; see the module docstring."""
  if num_examples <= max(buffer_size, batch_size):
    return 1
  limit = max(min(MAX_SHARDS, num_files // _FILES_PER_SHARD), 1)
  return max(v for v in range(1, limit + 1) if batch_size % v == 0)


def _epoch_records(
  plan: _Epoch, rows: Rows, epoch: tf.Tensor, files: _Files, seed: tf.Tensor, skipped: tf.Tensor
) -> tf.data.Dataset:
  """(epoch, position, index, record) of the host's shards in turn, then of the remainder.

  `skipped`: int64, how many records to skip at the beginning of each shard.
  """

  def shard_records(shard: tf.Tensor) -> tf.data.Dataset:
    records = _shuffled_range(
      files, plan.rest + shard * plan.length, plan.length, plan.buffer, seed + shard
    )
    return (
      records.skip(skipped)
      .enumerate(skipped)
      .map(
        lambda k, record: (
          epoch,
          k // plan.block * plan.batch_size + shard * plan.block + k % plan.block,
          *record,
        )
      )
    )

  readers = min(plan.shards, -(-rows.count // plan.block) + 1)
  stream = tf.data.Dataset.from_tensor_slices(_shards_of_host(plan, rows, epoch)).interleave(
    shard_records,
    cycle_length=readers,
    block_length=plan.block,
    num_parallel_calls=min(_READERS, readers),
    deterministic=True,
  )
  if plan.rest:
    last = _shuffled_range(files, 0, plan.rest, plan.rest, seed + plan.shards)
    last = last.enumerate(plan.total - plan.rest)
    stream = stream.concatenate(last.map(lambda at, record: (epoch, at, *record)))
  return stream


def _shards_of_host(plan: _Epoch, rows: Rows, epoch: tf.Tensor) -> tf.Tensor:
  """int64[...]: the shards that the host's rows of an epoch come from, ascending."""
  # From here on, the host's rows are `count` consecutive positions on a circle of batch_size.
  first = (rows.first - epoch * plan.total) % rows.batch_size
  needed = tf.minimum((first % plan.block + rows.count - 1) // plan.block + 1, plan.shards)
  return tf.sort((first // plan.block + tf.range(needed)) % plan.shards)


def _rows_before(distance: int, rows: Rows) -> int:
  """How many of a host's rows are among the last `distance` < batch_size rows of a batch."""
  return max(rows.first + rows.count - max(rows.first, rows.batch_size - distance), 0)


def _shuffled_files(split: tfrecords.Split, seed: tf.Tensor) -> _Files:
  order = tf.argsort(tf.random.stateless_uniform([len(split.paths)], seed))
  columns = (split.paths, split.skip, split.take, split.first)
  path, skip, take, first = (tf.gather(tf.constant(column), order) for column in columns)
  return path, skip, take, first, tf.cumsum(take)


def _shuffled_range(
  files: _Files, first: int | tf.Tensor, count: int, buffer: int, seed: tf.Tensor
) -> tf.data.Dataset:
  """Records [first, first + count) of concatenated files, shuffled: (index, record)."""
  path, skip, take, index, end = files
  before = tf.maximum(first - (end - take), 0)  # records of a file before the range
  kept = tf.minimum(end, first + count) - (end - take) - before
  columns = (path, skip + before, kept, index + before)
  records = tf.data.Dataset.from_tensor_slices(
    tuple(tf.boolean_mask(column, kept > 0) for column in columns)
  ).flat_map(tfrecords.read)
  records = records.apply(tf.data.experimental.assert_cardinality(count))
  return records.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
