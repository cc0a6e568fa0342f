"""The cost of resuming in the middle of an epoch.

The records of the epoch before the checkpoint are read and dropped without decoding. Here they have
the size of ImageNet's and come from memory; a slower disk would be the bottleneck instead.

  python -m benchmarks resume [--rounds=5]
"""

import os
import tempfile

from benchmarks import harness

_FILES, _RECORDS, _BYTES = 16, 100, 110_000  # ImageNet: 1.28 million JPEGs of 110 KB on average
_PASSES = 4
_BATCH = 128


def write_split(folder):
  """Writes TFRecords; returns a tfrecords.Split that lists each file _PASSES times."""
  import numpy as np
  import tensorflow as tf

  from luab_jax.data import tfrecords

  paths = [os.path.join(folder, f'{i:05d}.tfrecord') for i in range(_FILES)]
  for path in paths:
    with tf.io.TFRecordWriter(path) as writer:
      for _ in range(_RECORDS):
        writer.write(os.urandom(_BYTES))
  take = np.full(_FILES * _PASSES, _RECORDS, np.int64)
  return tfrecords.Split(
    name='train',
    folder=folder,
    num_examples=int(take.sum()),
    paths=paths * _PASSES,
    skip=0 * take,
    take=take,
    first=np.cumsum(take) - take,
  )


def main():
  """Times the first record of streams that start at the beginning and at the end of an epoch."""
  options = harness.parser(__doc__).parse_args()
  from luab_jax.data import shuffling, tfrecords
  from luab_jax.data.rows import Rows

  with tempfile.TemporaryDirectory(prefix='luab_resume_') as folder:
    split = write_split(folder)
    last = split.num_examples // _BATCH - 2  # later records are already in the buffers

    def first_record(step):
      stream = shuffling.shuffled(
        split, tfrecords.fold(0, 0), Rows(_BATCH), start_step=step, buffer_size=_BATCH
      )
      next(iter(stream))

    result = harness.compare(
      f'to the first record of an epoch of {split.num_examples:,}, of 110 KB each',
      {'from the beginning': lambda: first_record(0), 'from the end': lambda: first_record(last)},
      rounds=options.rounds,
      show=['seconds', 'cpu_seconds'],
    )
  start, end = (figures['seconds']['median'] for figures in result['alternatives'].values())
  rate = last * _BATCH / (end - start)
  minutes = 640_000 / rate / 60
  note = f'{rate:,.0f} skipped records per second: half of ImageNet in {minutes:.1f} min.'
  harness.record('resume', result, notes=[note], results=options.results)
