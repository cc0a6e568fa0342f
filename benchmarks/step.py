"""The cost of LUAB over plain cross entropy, and how long training waits for data.

The plain peer is the same backbone with only a classifier, the same optimizer, and cross entropy
and top-1 as its only metrics (benchmarks/steps.py); LUAB has the point head, the point loss and all
metrics of a training run. Both train on one synthetic batch that stays on the device.

Waiting is 1 - (seconds per step with a batch on the device) / (seconds per step with batches from
the input pipeline). On a CPU the pipeline shares the cores with the step, so this is the cost of
reading, not idle time.

  python -m benchmarks step [--rounds=7] [--only=CASE] [--data_dir=data/quickstart]
"""

import itertools
import pathlib

from benchmarks import harness

KINDS = {
  'plain cross entropy': 'plain',
  'LUAB, linear head': 'linear',
  'LUAB, spatial head': 'spatial',
}


def overhead(options, name, size, rows, steps):
  """Compares steps of plain cross entropy and of LUAB with either head."""
  from benchmarks import steps as training_steps
  from configs import imagenet_ab_resnet50, imagenet_ab_vit_s16

  recipe = imagenet_ab_vit_s16 if 'vit' in name else imagenet_ab_resnet50
  batch = training_steps.make_batch(rows, size)

  def alternative(kind):
    training = training_steps.Training(
      *training_steps.build(recipe.get_config(), kind, name=name, dtype='float32', size=size)
    )
    put = training.put(batch)
    return lambda: training.run([put] * steps)

  result = harness.compare(
    f'LUAB over plain cross entropy, {name}, {size} px, {rows} images, float32, 1 CPU device',
    {title: alternative(kind) for title, kind in list(KINDS.items())[: 2 if options.tiny else 3]},
    rounds=options.rounds,
    unit='images',
    show=['cpu_seconds', 'seconds'],
  )
  ratio = harness.ratio(result, 'LUAB, linear head', 'cpu_seconds')
  goals = [harness.goal('CPU time, linear head', ratio, at_most=1.02)]
  harness.record('step', result, goals, results=options.results)


def operations(options):
  """Compares operations of the real models at 224 px, which are counted, not measured."""
  from benchmarks import steps as training_steps
  from configs import imagenet_ab_resnet50, imagenet_ab_vit_s16

  for name, recipe in (('resnet50', imagenet_ab_resnet50), ('vit_s16', imagenet_ab_vit_s16)):

    def alternative(kind, recipe=recipe):
      state, step = training_steps.build(recipe.get_config(), kind)
      count, _ = training_steps.flops(state, step, 8, 224)
      return lambda: (1, {'GFLOP per image': count / 8e9})

    result = harness.compare(
      f'operations of a training step, {name}, 224 px',
      {title: alternative(kind) for title, kind in KINDS.items()},
      rounds=1,
      warmup=0,
      show=['GFLOP per image'],
    )
    ratio = harness.ratio(result, 'LUAB, linear head', 'GFLOP per image')
    goals = [harness.goal('operations, linear head', ratio, at_most=1.02)]
    harness.record(
      'step',
      result,
      goals,
      notes=["Counted by XLA's cost analysis of the program before optimisation, not measured."],
      results=options.results,
    )


def waiting(options, steps):
  """Compares steps on a batch on the device, on prefetched batches, and without prefetching."""
  if not options.data_dir.is_dir():
    print(f'waiting: not run, {options.data_dir} is not there: make quickstart builds it')
    return
  import jax

  from configs import quickstart
  from luab_jax.data import pipeline
  from luab_jax.runtime import parallel
  from luab_jax.train.experiment import Experiment
  from luab_jax.train.state import init_state

  config = quickstart.get_config()
  config.data.data_dir = str(options.data_dir)
  run = Experiment(config)
  state = jax.device_get(
    init_state(run.model, run.optimizer, seed=0, image_size=config.data.image_size, ema=False)
  )
  train_step = parallel.map_step(run.train_step, donate_state=True)

  def host_batches():
    return pipeline.train_batches(
      config.data, pipeline.dataset_spec(config.data), pipeline.Rows(config.batch_size), seed=0
    ).as_numpy_iterator()

  def alternative(batches):
    states = [parallel.replicate(state)]

    def work():
      for batch in itertools.islice(batches, steps):
        states[0], _ = train_step(states[0], batch)
      jax.block_until_ready(states[0])
      return steps * config.batch_size

    return work

  there = parallel.shard(next(host_batches()))
  result = harness.compare(
    f'quickstart, {config.batch_size} images of {config.data.image_size} px, '
    f'{jax.local_device_count()} CPU device(s)',
    {
      'batch on the device': alternative(itertools.repeat(there)),
      'input pipeline, prefetched (as training does)': alternative(
        parallel.prefetch(host_batches())
      ),
      'input pipeline, not prefetched': alternative(map(parallel.shard, host_batches())),
    },
    rounds=options.rounds,
    unit='images',
    show=['seconds', 'cpu_seconds'],
  )
  turns = result['alternatives']['input pipeline, prefetched (as training does)']
  share = 1 - 1 / turns['seconds']['ratio']['median']
  harness.record(
    'step',
    result,
    notes=[
      f'{share:.0%} of the time goes beyond the step itself: here the pipeline shares the cores '
      'with the step. On an accelerator: benchmark gpu.'
    ],
    results=options.results,
  )


def main():
  """Runs all cases, one of them, or a tiny version."""
  parser = harness.parser(__doc__, rounds=7)
  parser.add_argument(
    '--data_dir',
    type=pathlib.Path,
    default=harness.ROOT / 'data/quickstart',
    help='folder of a built imagenet_ab/local, for the share of time waiting',
  )
  parser.add_argument('--tiny', action='store_true', help='small and quick, to see that it works')
  parser.add_argument('--only', choices=('vit_ti16', 'resnet18', 'operations', 'waiting'))
  options = parser.parse_args()
  if options.tiny:
    overhead(options, 'tiny_vit', 16, 4, 1)
    return
  from luab_jax.runtime import hosts

  hosts.use_cpu_cores(64)
  cases = {
    'vit_ti16': lambda: overhead(options, 'vit_ti16', 96, 32, 1),
    'resnet18': lambda: overhead(options, 'resnet18', 64, 32, 1),
    'operations': lambda: operations(options),
    'waiting': lambda: waiting(options, 20),
  }
  for name, case in cases.items():
    if options.only in (None, name):
      case()
