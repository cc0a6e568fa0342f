"""A line of faults.py: what it costs to go on in the middle of an epoch.

What the epoch had before the checkpoint is read and dropped raw. Here that is done with records of
the size of ImageNet's, from memory: a disk that is slower than this is the limit instead.
"""

import os
import tempfile
import time

_FILES, _RECORDS, _BYTES = 16, 100, 110_000  # ImageNet: 1.28 million JPEGs of 110 KB on average
_PASSES = 4
_BATCH = 128
_IMAGENET = 1_281_167


def reading(*_):
  """Times the first record of a stream that starts late in an epoch, less that of one at its start.

  Returns a line for people.
  """
  import numpy as np
  import tensorflow as tf

  from luab_jax.data import shuffling, tfrecords

  with tempfile.TemporaryDirectory(prefix='luab_resume_') as folder:
    paths = [os.path.join(folder, f'{i:05d}.tfrecord') for i in range(_FILES)]
    for path in paths:
      with tf.io.TFRecordWriter(path) as writer:
        for _ in range(_RECORDS):
          writer.write(os.urandom(_BYTES))
    take = np.full(_FILES * _PASSES, _RECORDS, np.int64)
    split = tfrecords.Split(
      name='train',
      folder=folder,
      num_examples=int(take.sum()),
      paths=paths * _PASSES,
      skip=0 * take,
      take=take,
      first=np.cumsum(take) - take,
    )

    def first(step):
      stream = shuffling.shuffled(
        split, tfrecords.fold(0, 0), shuffling.Rows(_BATCH), start_step=step, buffer_size=_BATCH
      )
      began = time.perf_counter()
      next(iter(stream))
      return time.perf_counter() - began

    last = split.num_examples // _BATCH - 2  # what follows is in the buffers already
    first(last)  # the files are in memory after it
    seconds = min(first(last) for _ in range(3)) - min(first(0) for _ in range(3))
  rate = last * _BATCH / seconds
  return (
    f'{rate:,.0f} records/s of {_BYTES / 1000:.0f} KB, {rate * _BYTES / 1e6:,.0f} MB/s: half '
    f'an epoch of ImageNet in {_IMAGENET / 2 / rate / 60:.1f} minutes'
  )


CASES = {'resume within an epoch': reading}
