"""Reading and augmenting photographs: luab_jax's modes against PIL and against decoding alone.

The images are those of a built imagenet_ab/local, by default the mini release
(docs/data.md): photographs of 563 x 414 pixels and 92 KB on average. Everything at 224 px in
batches of 128. The peer is what a PyTorch user writes: files in a folder, PIL's decoder, crop
(bicubic), flip, float32, normalised; label and click are in memory. If torch is on PYTHONPATH, it
also runs in a DataLoader, and the one with two workers is the baseline; if simplejpeg is, decoding
alone uses it.

Every alternative runs in its own process and is measured from its third batch on; with and without
byproducts take turns in one process. Pixels are compared with PIL's on the same windows of the same
images. --reduced: sets of smaller images instead, as built by imagenet_ab/local_shortN.
"""

import importlib.util
import os
import pathlib
import sys
import tempfile
import time

from benchmarks import harness
from benchmarks.input_pipeline_peers import BATCH, SIZE, pil_window
from luab_jax import cores

_WARM = 2
MODES = {
  'bicubic': {},
  'bilinear': {'resize_method': 'bilinear'},
  'bilinear, antialias=False': {'resize_method': 'bilinear', 'antialias': False},
}


def data_config(data_dir, **changes):
  """The `data` part of configs/imagenet_ab_resnet50.py for a built imagenet_ab/local."""
  from configs import imagenet_ab_resnet50

  data = imagenet_ab_resnet50.get_config().data
  data.update(
    {
      'name': 'imagenet_ab/local',
      'data_dir': str(data_dir),
      'train_split': 'train',
      'shuffle_buffer': 256,
      **changes,
    }
  )
  return data


def ours(data_dir, **changes):
  """Yields our training batches."""
  from luab_jax.data import pipeline

  data = data_config(data_dir, **changes)
  return iter(
    pipeline.train_batches(data, pipeline.dataset_spec(data), pipeline.Rows(BATCH), seed=0)
  )


def ours_without_byproducts(data_dir, **changes):
  """Yields the same images and labels from the same functions, without the points."""
  import tensorflow as tf

  from luab_jax.data import geometry, image_ops, pipeline, shuffling, tfrecords
  from luab_jax.data.dataset import Source

  data = data_config(data_dir, **changes)
  source = Source(data, pipeline.dataset_spec(data), 'train')

  def example(epoch, position, _, record):
    fields = source._parse(record, {'image': True, 'label': True})
    crop, flip, _ = tf.unstack(tf.random.split(tfrecords.fold(0, 1, epoch, position), 3))
    image, _, _ = image_ops.decode_window(
      fields['image'], lambda height, width: geometry.sample_window(crop, height, width)
    )
    image = image_ops.resize(image, [SIZE, SIZE], data.resize_method, data.antialias)
    image = image_ops.flip(image_ops.to_uint8(image), geometry.sample_flip(flip))
    return {'image': image, 'label': source.label(fields), 'example_mask': tf.constant(1.0)}

  rows = pipeline.Rows(BATCH)
  stream = shuffling.shuffled(
    source.split, tfrecords.fold(0, 0), rows, start_step=0, buffer_size=data.shuffle_buffer
  )
  examples = stream.map(
    tf.autograph.experimental.do_not_convert(example),
    num_parallel_calls=cores(),
    deterministic=True,
  )
  return iter(pipeline.batched(examples, stream, rows, source))


def ours_in_evaluation(data_dir):
  """Yields our evaluation batches of the training split, repeatedly."""
  from luab_jax.data import pipeline

  while True:
    data = data_config(data_dir)
    batches, _ = pipeline.eval_batches(
      data, pipeline.dataset_spec(data), 'train', pipeline.Rows(BATCH)
    )
    yield from batches


def time_batches(batches, count):
  """{units, seconds, cpu_seconds} per image over `count` batches after the first ones."""
  for _ in range(_WARM):
    next(batches)
  cpu, began = harness.cpu_seconds() + _workers_cpu(), time.perf_counter()
  for _ in range(count):
    next(batches)
  images = count * BATCH
  return {
    'units': images,
    'seconds': (time.perf_counter() - began) / images,
    'cpu_seconds': (harness.cpu_seconds() + _workers_cpu() - cpu) / images,
  }


def _workers_cpu():
  """CPU time so far of running child processes (Linux), such as a DataLoader's workers."""
  ticks = 0
  for path in pathlib.Path(f'/proc/{os.getpid()}/task').glob('*/children'):
    for child in path.read_text().split():
      fields = pathlib.Path(f'/proc/{child}/stat').read_text().rpartition(')')[2].split()
      ticks += int(fields[11]) + int(fields[12])
  return ticks / os.sysconf('SC_CLK_TCK')


def pixel_difference(folder, mode):
  """Mean absolute difference from PIL's bicubic result in grey levels, on the same windows."""
  import random

  import numpy as np
  import tensorflow as tf
  from PIL import Image

  from luab_jax.data import geometry, image_ops

  options = {'resize_method': 'bicubic', 'antialias': True, **MODES[mode]}
  chance, differences = random.Random(0), []
  for path in sorted(pathlib.Path(folder).iterdir()):
    picture = Image.open(path).convert('RGB')
    left, top, width, height = pil_window(chance, *picture.size)
    box = left, top, left + width, top + height
    expected = picture.crop(box).resize((SIZE, SIZE), Image.BICUBIC)
    window = geometry.Window(*(tf.constant(v) for v in (top, left, height, width)))
    image, _, _ = image_ops.decode_window(path.read_bytes(), lambda h, w, window=window: window)
    image = image_ops.to_uint8(image_ops.resize(image, [SIZE, SIZE], *options.values())).numpy()
    differences.append(np.abs(image.astype(np.int16) - np.asarray(expected, np.int16)).mean())
  return float(np.mean(differences))


def store_images(data_dir, folder):
  """Writes the JPEGs of a built imagenet_ab/local to a folder, for the peer."""
  from luab_jax.data import tfrecords
  from luab_jax.data.dataset import Source, dataset_spec

  data = data_config(data_dir)
  source = Source(data, dataset_spec(data), 'train')
  for number, (_, record) in enumerate(tfrecords.in_order(source.split)):
    image = source.parse_file(record)['image'].numpy()
    if image.startswith(b'\xff\xd8'):
      (folder / f'{number:06d}.jpg').write_bytes(image)


def _alternatives(data_dir, folder, count):
  """{name: function for harness.compare}."""
  calls = {}  # the first one is the baseline
  if importlib.util.find_spec('torch'):
    calls |= {
      f'PIL, DataLoader with {workers} workers': f'peers.data_loader({str(folder)!r}, {workers})'
      for workers in (2, 0)
    }
  calls['PIL'] = f'peers.pil({str(folder)!r})'
  decoder = 'simplejpeg' if importlib.util.find_spec('simplejpeg') else 'PIL'
  calls[f'decoding alone ({decoder})'] = f'peers.decode_alone({str(folder)!r})'
  for mode, changes in MODES.items():
    calls[mode] = f'b.ours({str(data_dir)!r}, **{changes!r})'
  calls['evaluation, bicubic'] = f'b.ours_in_evaluation({str(data_dir)!r})'
  return {name: in_a_process(call, count) for name, call in calls.items()}


def in_a_process(call, count):
  """A function for harness.compare: `count` batches of a call like b.ours() in a new process."""
  return harness.fresh_process(
    'from benchmarks import input_pipeline as b, input_pipeline_peers as peers\n'
    f'figures |= b.time_batches({call}, {count})',
    TF_CPP_MIN_LOG_LEVEL='3',
    CUDA_VISIBLE_DEVICES='',
  )


def _compare_byproducts(options):
  """What the points cost: too little for separate processes, which differ by more."""
  calls = {'without byproducts': ours_without_byproducts, 'with byproducts': ours}
  result = harness.compare(
    'photographs to batches of 128, 224 px, with and without byproducts, in one process',
    {name: _until_idle(call(options.data_dir), options.batches) for name, call in calls.items()},
    rounds=4 * options.rounds,
    unit='images',
    show=['cpu_seconds', 'images/CPU-s'],
  )
  ratio = harness.ratio(result, 'with byproducts', 'cpu_seconds')
  goal = harness.goal('CPU time with byproducts / without', ratio, at_most=1.03)
  harness.record('input_pipeline', result, [goal], results=options.results)


def reduced_set(data_dir, name, count):
  """`time_batches` with our batches of a set, and the size of its records per image."""
  from luab_jax.data import tfrecords

  split = tfrecords.open_split(tfrecords.open_builder(name, data_dir), 'train')
  size = sum(map(os.path.getsize, split.paths)) / 1000 / split.num_examples
  return {**time_batches(ours(data_dir, name=name), count), 'KB/image': size}


def _compare_reduced(options):
  folder = pathlib.Path(options.data_dir, 'imagenet_ab')
  names = ['local', *sorted((path.name for path in folder.glob('local_short*')), reverse=True)]
  code = 'from benchmarks import input_pipeline as b\nfigures |= b.reduced_set{}'
  calls = {n: (options.data_dir, f'imagenet_ab/{n}', options.batches) for n in names}
  result = harness.compare(
    'photographs to batches of 128, 224 px, bicubic, from reduced sets',
    {name: harness.fresh_process(code.format(call)) for name, call in calls.items()},
    rounds=options.rounds,
    warmup=0,
    unit='images',
    show=['images/CPU-s', 'KB/image'],
  )
  harness.record('input_pipeline', result, results=options.results)


def _until_idle(batches, count):
  """A function that takes `count` batches and waits until prefetching has caught up."""

  def work():
    for _ in range(count):
      next(batches)
    before = harness.cpu_seconds()
    while True:
      time.sleep(0.05)
      now = harness.cpu_seconds()
      if now - before < 0.005:
        return count * BATCH
      before = now

  return work


def main():
  """Runs the benchmark."""
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument('--data_dir', default='data/mini', help='where imagenet_ab/local was built')
  parser.add_argument('--batches', type=int, default=8, help='how many are timed in a round')
  parser.add_argument('--reduced', action='store_true', help='only the sets of reduced images')
  options = parser.parse_args()
  if options.reduced:
    _compare_reduced(options)
    return 0
  from luab_jax.errors import UserError

  with tempfile.TemporaryDirectory(prefix='luab_jpegs_') as name:
    folder = pathlib.Path(name)
    try:
      store_images(options.data_dir, folder)
    except UserError as error:
      print(f'python -m benchmarks input_pipeline: {error}', file=sys.stderr)
      return 2
    apart = {mode: pixel_difference(folder, mode) for mode in MODES}
    result = harness.compare(
      'photographs to batches of 128, 224 px',
      _alternatives(options.data_dir, folder, options.batches),
      rounds=options.rounds,
      warmup=0,
      unit='images',
      show=['images/CPU-s', 'images/s', 'peak_mib'],
    )
  _record(result, apart, options)
  _compare_byproducts(options)
  return 0


def _record(result, apart, options):
  fast, figure = 'bilinear, antialias=False', 'images/CPU-s'
  peer, *names = result['alternatives']
  decoding = next(name for name in names if name.startswith('decoding alone'))
  of_decoding = harness.median(result, fast, figure) / harness.median(result, decoding, figure)
  difference = "bicubic: mean difference to PIL's pixels, grey levels"
  goals = [
    harness.goal(f'bicubic / {peer}', harness.ratio(result, 'bicubic', figure), at_least=1.3),
    harness.goal(difference, apart['bicubic'], at_most=1.5),
    harness.goal(f'without antialias / {peer}', harness.ratio(result, fast, figure), at_least=3),
    harness.goal('without antialias / decoding alone', of_decoding, at_least=0.7),
  ]
  notes = [
    f'mean difference to PIL bicubic in grey levels: {mode} {value:.2f}'
    for mode, value in apart.items()
  ]
  harness.record('input_pipeline', result, goals, notes=notes, results=options.results)
