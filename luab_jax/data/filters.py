"""Filters of ImageNet-AB's byproducts for training: which selections by workers count.

A selection says little if the worker made no real decision: a click within milliseconds, or by
someone who clicks everything. A selection that is dropped loses its click and its trace; its image
stays, without a point if none of its other selections is left.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.data.dataset import FILTERS, Fields, Source
from luab_jax.errors import UserError

Filter = Callable[[tf.Tensor, Fields], Fields]

_HASHES = 2**62  # buckets; in practice, no two workers share one


class Blocks(NamedTuple):
  """All blocks of a split, in file order; each is one showing of an image to a worker.

  Attributes:
    image: int64[n], the index of the image's record in the split, ascending.
    selected: bool[n]; the byproducts of the others never count.
    time_ms: float64[n], the estimate time; NaN where none was recorded.
    worker: int64[n], a number for each worker; blocks without a worker id share one.
    priority: int64[n], a pseudo-random number for the image, from its file name alone.
  """

  image: np.ndarray
  selected: np.ndarray
  time_ms: np.ndarray
  worker: np.ndarray
  priority: np.ndarray


def make_filter(source: Source) -> tuple[Filter, str]:
  """The filters set in the `data` part of a config; if there are any, this reads the split once.

  Args:
    source: of the training split.

  Returns:
    (function of (index of a record in the split, its fields) -> fields in which only the blocks
    that count are selected; one line that says what was dropped, '' without filters).

  Raises:
    UserError: no byproduct is left.
  """
  data, split = source.data, source.split
  if not any(data[key] for key in FILTERS):
    return lambda _, fields: fields, ''
  blocks = _read_blocks(source)
  kept, dropped = keep(blocks, data)
  reasons = ', '.join(f'{count:,} by data.{key}={data[key]}' for key, count in dropped.items())
  if not kept.any():
    raise UserError(
      f'no byproduct is left of the {blocks.selected.sum():,} selections in {split.name} of '
      f'{split.folder} (dropped: {reasons}): relax these filters'
    )
  before, after = (len(np.unique(blocks.image[used])) for used in (blocks.selected, kept))
  line = (
    f'byproducts of {split.name}: {kept.sum():,} of {blocks.selected.sum():,} selections are kept '
    f'(dropped: {reasons}); {after:,} of {before:,} selected images keep one'
  )
  selected = tf.constant(kept)
  first = tf.constant(np.searchsorted(blocks.image, np.arange(split.num_examples + 1)))

  def filtered(index: tf.Tensor, fields: Fields) -> Fields:
    return fields | {'blocks': {'selected': selected[first[index] : first[index + 1]]}}

  return filtered, line


def keep(blocks: Blocks, data: ConfigDict) -> tuple[np.ndarray, dict[str, int]]:
  """Applies the filters in the order of `FILTERS`.

  A worker's mean time is over all of the worker's selections; `max_per_worker` counts only those
  that the other filters leave.

  Args:
    blocks: of the whole split.
    data: the `data` part of a config.

  Returns:
    (bool[n], which blocks count; {active filter: number of the remaining selections it dropped}).
  """
  kept, dropped = blocks.selected.copy(), {}
  for key in FILTERS:
    if limit := data[key]:
      passed = kept & _passes(key, limit, blocks, kept)
      dropped[key] = int(kept.sum() - passed.sum())
      kept = passed
  return kept, dropped


def _passes(key: str, limit: int, blocks: Blocks, kept: np.ndarray) -> np.ndarray:
  """bool[n]: which blocks pass one filter.

  Blocks without a recorded time do not pass `min_estimate_ms` and `max_estimate_ms`, and workers
  without any do not pass `min_worker_ms`.
  """
  if key == 'min_estimate_ms':
    return blocks.time_ms >= limit
  if key == 'max_estimate_ms':
    return blocks.time_ms <= limit
  _, worker = np.unique(blocks.worker, return_inverse=True)
  if key == 'min_worker_ms':
    timed = blocks.selected & ~np.isnan(blocks.time_ms)
    count = np.bincount(worker, timed)
    total = np.bincount(worker, np.where(timed, blocks.time_ms, 0))
    return ((total >= limit * count) & (count > 0))[worker]
  rows = np.flatnonzero(kept)
  rows = rows[np.lexsort((blocks.priority[rows], worker[rows]))]
  _, start, count = np.unique(worker[rows], return_index=True, return_counts=True)
  rank = np.arange(len(rows)) - np.repeat(start, count)  # among the worker's rows
  passes = np.zeros_like(kept)
  passes[rows[rank < limit]] = True
  return passes


def _read_blocks(source: Source) -> Blocks:
  def of_record(index: tf.Tensor, record: tf.Tensor) -> Blocks:
    fields = source.parse_blocks(record)
    blocks = fields['blocks']
    time = tf.cast(blocks['estimate_time_ms'], tf.float64)
    # TensorFlow guarantees that this hash stays the same across releases.
    priority = tf.strings.to_hash_bucket_fast(fields['file_name'], _HASHES)
    shape = tf.shape(blocks['selected'])
    return Blocks(
      image=tf.fill(shape, index),
      selected=blocks['selected'],
      time_ms=tf.where(blocks['estimate_time_known'], time, float('nan')),
      worker=tf.strings.to_hash_bucket_fast(blocks['worker_id'], _HASHES),
      priority=tf.fill(shape, priority),
    )

  parts = [
    [column.flat_values.numpy() for column in part]
    for part in tfrecords.scan(source.split, of_record)
  ]
  return Blocks(*map(np.concatenate, zip(*parts, strict=True)))
