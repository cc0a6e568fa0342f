"""Weak scaling over 1, 2, 4 and 8 virtual CPU devices: the cost of communication and compilation.

Each device has the same number of images. The devices share the machine's cores, so CPU-seconds per
image would stay the same if devices cost nothing; wall time tells how well the cores are used. The
share of communication is 1 - (CPU time without collectives) / (with them), where the same step was
traced with psum and pmean as identities. Compile time covers lowering and XLA without a cache, in
CPU-seconds. Steps are mapped by jax.pmap, in the last row by jax.shard_map.

  python -m benchmarks scaling [--rounds=5]
  python -m benchmarks scaling --paper     prints the tables of docs/scaling.md, nothing measured
"""

import functools
import os
import time
from unittest import mock

from benchmarks import harness, paper

COUNTS = (1, 2, 4, 8)


def alternative(training, silent, batch, compile_seconds):
  """An alternative that runs a step with collectives and one without; figures of the first."""

  def turn(which):
    cpu, began = harness.cpu_seconds(), time.perf_counter()
    images = which.run([batch])
    return images, (time.perf_counter() - began) / images, (harness.cpu_seconds() - cpu) / images

  def work():
    images, seconds, cpu = turn(training)
    _, _, cpu_without = turn(silent)
    return images, {
      'seconds': seconds,
      'cpu_seconds': cpu,
      'communication, %': 100 * (1 - cpu_without / cpu),
      'compile, CPU-s': compile_seconds,
    }

  return work


def prepare(count, name, size, rows, shard_map=False):
  """The alternative of `count` devices with `rows` images each."""
  import jax

  from benchmarks import steps
  from configs import imagenet_ab_resnet50, imagenet_ab_vit_s16

  recipe = imagenet_ab_vit_s16 if 'vit' in name else imagenet_ab_resnet50
  state, step = steps.build(recipe.get_config(), 'linear', name=name, dtype='float32', size=size)
  training = steps.Training(state, step, devices=count, shard_map=shard_map)
  batch = training.put(steps.make_batch(rows * count, size))
  began = harness.cpu_seconds()
  training.compile(batch)
  compile_seconds = harness.cpu_seconds() - began
  silent = steps.Training(  # not traced yet
    state, functools.partial(step), devices=count, shard_map=shard_map
  )
  with (
    mock.patch.object(jax.lax, 'psum', lambda tree, axis: tree),
    mock.patch.object(jax.lax, 'pmean', lambda tree, axis: tree),
  ):
    silent.run([batch])  # traced here
  return alternative(training, silent, batch, compile_seconds)


def main():
  """Measures, or prints the calculated tables of docs/scaling.md."""
  parser = harness.parser(__doc__)
  parser.add_argument('--paper', action='store_true', help='the tables of docs/scaling.md')
  parser.add_argument('--tiny', action='store_true', help='small and quick, to see that it works')
  options = parser.parse_args()
  if options.paper:
    print('\n\n'.join(paper.tables()))
    return
  if not options.tiny:
    os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)  # else nothing would be compiled
  import jax

  if not options.tiny:  # under test there are eight already
    jax.config.update('jax_num_cpu_devices', max(COUNTS))
  name, size, rows = ('tiny_vit', 16, 2) if options.tiny else ('vit_ti16', 64, 16)
  alternatives = {
    f'{count} device' + 's' * (count > 1): prepare(count, name, size, rows)
    for count in (() if options.tiny else COUNTS)
  }
  last = 2 if options.tiny else max(COUNTS)
  alternatives[f'{last} devices, by shard_map'] = prepare(last, name, size, rows, shard_map=True)
  result = harness.compare(
    f'weak scaling, {name}, {size} px, {rows} images per device, float32, virtual CPU devices',
    alternatives,
    rounds=options.rounds,
    unit='images',
    show=['cpu_seconds', 'seconds', 'communication, %', 'compile, CPU-s'],
  )
  harness.record('scaling', result, results=options.results)
