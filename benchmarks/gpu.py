"""Training images/s on a GPU: ours and timm's with torch.compile, channels last and autocast.

On the same card, in the same run, in turns; ours takes at most 45 % of the card's memory. For
ResNet-50 and ViT-S/16 in bfloat16:
  with a batch that stays on the device: LUAB, plain cross entropy, timm; percentage of the roofline
  end to end: our input pipeline at the recipe's quality and without antialiasing, timm's loader;
    the share of time waiting for data is 1 - (images/s end to end) / (images/s on the device), the
    CPU cores that would keep the card busy are (CPU-seconds per image) x (images/s on the device)
  a profile of LUAB's step and its longest operations

Roofline: a step cannot be faster than max(operations / peak, bytes / bandwidth), both as counted by
XLA's cost analysis of the compiled program; the percentage is that time over the measured time.

  python -m tfds_builders.build imagenet_ab/local --manual_dir=../shared/mini_release/imagenet_ab \
    --data_dir=data/mini
  python -m benchmarks gpu [--data_dir=data/mini] [--torch_python=/path/to/python]

It does not run without a GPU; --tiny tries every part on a CPU in seconds and records nothing in
the project's results file.
"""

import collections
import itertools
import os
import pathlib
import sys
import tempfile
import time

from benchmarks import harness
from benchmarks.gpu_timm import Peer, write_photographs

# Part of JAX's device_kind: (bf16 FLOP/s of dense matrices, bytes/s of memory). Data sheets, SXM.
PEAKS = {
  'H200': (989.4e12, 4.8e12),
  'H100': (989.4e12, 3.35e12),
  'A100': (312e12, 2.04e12),
  'B200': (2250e12, 8e12),
  'L40S': (362e12, 0.864e12),
}
MODELS = {'resnet50': 'resnet50', 'vit_s16': 'vit_small_patch16_224'}  # ours: timm's
TINY = {'tiny_vit': 'test_resnet'}  # for --tiny: they compile in seconds
PEER = 'timm'
AHEAD = 2  # batches prepared, and batches in transfer to the device, while a step runs


def recipe(name, options):
  """The config of a model with this run's data, batch size and image size."""
  from configs import imagenet_ab_resnet50, imagenet_ab_vit_s16

  recipes = {'resnet50': imagenet_ab_resnet50}
  config = recipes.get(name, imagenet_ab_vit_s16).get_config()
  config.model.name = name
  config.batch_size = options.batch
  config.data.name, config.data.data_dir = 'imagenet_ab/local', str(options.data_dir)
  config.data.train_split, config.data.image_size = 'train', options.size
  return config


def peaks(options):
  """(FLOP/s, bytes/s) of the first device, or None if it is not in the list."""
  import jax

  kind = jax.devices()[0].device_kind
  found = [values for part, values in PEAKS.items() if part in kind]
  return (1e12, 1e11) if options.tiny else found[0] if found else None


def roofline(compiled, options):
  """Minimum seconds of a compiled step on this card, or None if the card is not in the list."""
  known = peaks(options)
  cost = compiled.cost_analysis()
  cost = cost[0] if isinstance(cost, list) else cost
  if not known or 'flops' not in cost or 'bytes accessed' not in cost:
    return None
  return max(cost['flops'] / known[0], cost['bytes accessed'] / known[1])


def peak_mib(compiled):
  """Peak device memory of a compiled step in MiB, its state and batch included."""
  memory = compiled.memory_analysis()
  used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
  return (used - memory.alias_size_in_bytes) / 2**20


def on_device(name, options, peer, trainings):
  """Compares images/s with a batch that stays on the device; returns LUAB's (linear head)."""
  from benchmarks import steps

  def alternative(training):
    batch = training.put(steps.make_batch(options.batch, options.size))
    compiled = training.compile(batch)
    least = roofline(compiled, options)
    memory = {'GPU MiB': peak_mib(compiled)}

    def work():
      began = time.perf_counter()
      images = training.run([batch] * options.steps)
      seconds = time.perf_counter() - began
      more = {'of the roofline, %': 100 * least * options.steps / seconds} if least else {}
      return images, more | memory

    return work

  alternatives = {} if peer.missing else {PEER: peer.alternative('synthetic', options.steps)}
  alternatives |= {kind: alternative(training) for kind, training in trainings.items()}
  result = harness.compare(
    f'{name}, {options.size} px, {options.batch} images on the device, bfloat16',
    alternatives,
    rounds=options.rounds,
    unit='images',
    show=['images/s', 'of the roofline, %', 'GPU MiB'],
  )
  plain, luab = (
    harness.median(result, kind, 'images/s') for kind in ('cross entropy', 'LUAB, linear head')
  )
  goals = [harness.goal('time of LUAB / cross entropy', plain / luab, at_most=1.02)]
  if not peer.missing:
    ratio = harness.ratio(result, 'LUAB, linear head', 'images/s')
    goals.append(harness.goal('images/s, LUAB / timm', ratio, at_least=1.1))
  save(result, goals, peer, options)
  return luab


def steady(training, batches, steps):
  """(images, figures) of training at the speed of the input pipeline.

  Batches that were prepared during the turns of others are dropped first.
  """
  for _ in range(2 * AHEAD):
    next(batches)
  training.run(itertools.islice(batches, AHEAD))
  cpu, began = harness.cpu_seconds(), time.perf_counter()
  images = training.run(itertools.islice(batches, steps))
  seconds, cpu = time.perf_counter() - began, harness.cpu_seconds() - cpu
  return images, {'seconds': seconds / images, 'cpu_seconds': cpu / images}


def end_to_end(name, options, peer, training, fastest):
  """Compares images/s with the input pipelines."""
  from luab_jax.data import pipeline

  def alternative(**changes):
    data = recipe(name, options).data
    data.update(changes)
    made = pipeline.train_batches(
      data, pipeline.dataset_spec(data), pipeline.Rows(options.batch), seed=0
    )
    made = map(training.put, made.as_numpy_iterator())

    def batches():  # as parallel.prefetch, to one device
      ahead = collections.deque(itertools.islice(made, AHEAD))
      for batch in made:
        ahead.append(batch)
        yield ahead.popleft()

    stream = batches()
    return lambda: steady(training, stream, options.steps)

  alternatives = {} if peer.missing else {PEER: peer.alternative('loader', options.steps)}
  alternatives |= {
    'LUAB, linear head, bicubic': alternative(),
    'LUAB, linear head, bilinear without antialiasing': alternative(
      resize_method='bilinear', antialias=False
    ),
  }
  result = harness.compare(
    f'{name}, {options.size} px, {options.batch} images, bfloat16, from JPEG to step',
    alternatives,
    rounds=options.rounds,
    unit='images',
    show=['images/s', 'images/CPU-s'],
  )
  goals, notes = [], []
  for kind, figures in result['alternatives'].items():
    if kind == PEER:
      continue
    share = 1 - figures['images/s']['median'] / fastest
    cores = fastest / figures['images/CPU-s']['median']
    notes.append(
      f'{kind}: {share:.0%} of the time is spent waiting for data; {cores:.1f} cores '
      f'would keep the card busy, there are {harness.machine()["cores"]}.'
    )
    if 'without' in kind:
      goals.append(harness.goal('share of time waiting', share, at_most=0.05))
  save(result, goals, peer, options, notes)


def profile(name, options, training):
  """Writes a profile of three steps; prints and records its longest operations."""
  import jax

  from benchmarks import steps

  batch = training.put(steps.make_batch(options.batch, options.size))
  folder = options.trace / name
  with jax.profiler.trace(str(folder)):
    training.run([batch] * 3)
  lines = longest(folder)
  print(f'{name}, profile in {folder} (tensorboard or xprof opens it); longest operations:')
  print('\n'.join(f'  {share:5.1%} {what}' for what, share in lines))


def longest(folder, count=10):
  """[(name, share of the time)] of the operations in a profile that took longest together."""
  import jax

  path = max(folder.rglob('*.xplane.pb'), key=lambda p: p.stat().st_mtime)
  times = {}
  planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
  device = [plane for plane in planes if plane.name.startswith('/device:')]
  for plane in device or planes:
    for line in plane.lines:
      # A GPU's streams hold its kernels; its other lines repeat them, grouped otherwise.
      if device and not line.name.startswith(('Stream', 'XLA Ops')):
        continue
      for event in line.events:
        times[event.name] = times.get(event.name, 0) + event.duration_ns
  total = sum(times.values())
  return [
    (name, time / total) for name, time in sorted(times.items(), key=lambda item: -item[1])[:count]
  ]


def save(result, goals, peer, options, notes=()):
  """Records a result with notes on the peer and the card."""
  import jax

  said = (
    [f'{PEER}: not run, {peer.missing}.']
    if peer.missing
    else [f'{PEER}: torch.compile, channels last, autocast to bfloat16, fused optimizer.']
  )
  kind = f'{jax.devices()[0].device_kind}.'
  harness.record(
    'gpu',
    result,
    goals,
    notes=[kind, *said, *notes],
    versions=peer.versions,
    results=options.results,
  )


def parse():
  """The options of the command line."""
  parser = harness.parser(__doc__)
  parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--size', type=int, default=224, help='of the images, in pixels')
  parser.add_argument('--steps', type=int, default=20, help='per turn')
  parser.add_argument(
    '--workers', type=int, default=harness.machine()['cores'], help="processes of timm's loader"
  )
  parser.add_argument('--data_dir', type=pathlib.Path, default=harness.ROOT / 'data/mini')
  parser.add_argument('--torch_python', default=sys.executable, help='a Python with torch and timm')
  parser.add_argument('--trace', type=pathlib.Path, default=harness.ROOT / 'runs/gpu_profile')
  parser.add_argument('--tiny', action='store_true', help='on a CPU, to see that it works')
  return parser.parse_args()


def main():
  """Runs all parts for each model."""
  options = parse()
  os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.45')  # the rest is timm's
  import jax

  if jax.default_backend() != 'gpu' and not options.tiny:
    print('gpu: not run, JAX sees no GPU here (--tiny tries its parts on a CPU)')
    return 1
  if options.tiny and options.results == harness.RESULTS:
    options.results = pathlib.Path(os.devnull)
  from benchmarks import steps

  models = TINY if options.tiny else options.models
  there = (options.data_dir / 'imagenet_ab').is_dir()
  if not there:
    print(f'gpu: end to end is not run, {options.data_dir} holds no imagenet_ab/local')
  with tempfile.TemporaryDirectory(prefix='luab_gpu_') as folder:
    if there:
      write_photographs(options.data_dir, folder, 1 if options.tiny else 80)
    for name in models:
      config = recipe(name, options)
      peer = Peer((MODELS | TINY)[name], options, folder if there else None)
      trainings = {
        title: steps.Training(*steps.build(config, kind))
        for title, kind in (
          ('cross entropy', 'plain'),
          ('LUAB, linear head', 'linear'),
          ('LUAB, spatial head', 'spatial'),
        )[: 2 if options.tiny else 3]
      }
      fastest = on_device(name, options, peer, trainings)
      if there:
        end_to_end(name, options, peer, trainings['LUAB, linear head'], fastest)
      profile(name, options, trainings['LUAB, linear head'])
      peer.close()
  return 0
