"""The cost of augmentation: in the input pipeline over crop and flip, on the device over a step.

Uses the photographs and batch size of input_pipeline, and the resizing of the default config
(bicubic, antialiased). The step is ResNet-18's at 64 px on one synthetic batch that stays on the
device: MixUp and CutMix cost operations per pixel, so their share falls with the network's size.

  python -m benchmarks augment [--rounds=5] [--data_dir=data/mini] [--batches=8]
"""

import sys

from benchmarks import harness, input_pipeline

_PIPELINES = {
  'crop and flip': {},
  'TrivialAugment': {'augment': 'trivial'},
  'RandAugment(1, 9)': {'augment': 'randaugment', 'augment_ops': 1},
  'RandAugment(2, 9)': {'augment': 'randaugment'},
  'colour jitter 0.4': {'color_jitter': 0.4},
  'random erasing 0.25': {'random_erasing': 0.25},
}
_STEPS = {
  'a step': {},
  'with MixUp or CutMix': {'mixup_alpha': 0.2, 'cutmix_alpha': 1.0},
  'with MixUp': {'mixup_alpha': 0.2},
  'with CutMix': {'cutmix_alpha': 1.0},
}


def pipelines(options):
  """Measures batches of the training pipeline, each alternative in its own process."""
  tiny = {'TrivialAugment': {'augment': 'trivial', 'image_size': 32}}
  chosen = tiny if options.tiny else _PIPELINES
  result = harness.compare(
    f'photographs to batches of {input_pipeline.BATCH}, 224 px, augmented',
    {
      name: input_pipeline.in_a_process(
        f'b.ours({str(options.data_dir)!r}, **{changes!r})', options.batches
      )
      for name, changes in chosen.items()
    },
    rounds=options.rounds,
    warmup=0,
    unit='images',
    show=['cpu_seconds', 'images/CPU-s'],
  )
  harness.record('augment', result, [], results=options.results)


def steps(options):
  """Measures training steps that mix their batch, and one that does not."""
  from benchmarks import steps as training_steps
  from configs import imagenet_ab_resnet50

  name, size, rows = ('tiny_vit', 16, 4) if options.tiny else ('resnet18', 64, 32)
  batch = training_steps.make_batch(rows, size)

  def alternative(changes):
    config = imagenet_ab_resnet50.get_config()
    config.data.update(changes)
    training = training_steps.Training(
      *training_steps.build(config, 'linear', name=name, dtype='float32', size=size)
    )
    put = training.put(batch)
    return lambda: training.run([put])

  result = harness.compare(
    f'a training step with MixUp and CutMix, {name}, {size} px, {rows} images, float32, 1 CPU '
    'device',
    {
      title: alternative(_STEPS[title])
      for title in (['with MixUp or CutMix'] if options.tiny else _STEPS)
    },
    rounds=options.rounds,
    unit='images',
    show=['cpu_seconds', 'seconds'],
  )
  harness.record('augment', result, [], results=options.results)


def main():
  """Runs both."""
  parser = harness.parser(__doc__, rounds=5)
  parser.add_argument('--data_dir', default='data/mini', help='where imagenet_ab/local was built')
  parser.add_argument('--batches', type=int, default=8, help='how many are timed in a round')
  parser.add_argument('--tiny', action='store_true', help='small and quick, to see that it works')
  options = parser.parse_args()
  options.batches = 1 if options.tiny else options.batches
  from luab_jax.data import dataset
  from luab_jax.errors import UserError

  try:
    dataset.dataset_spec(input_pipeline.data_config(options.data_dir))
  except UserError as error:
    print(f'python -m benchmarks augment: {error}', file=sys.stderr)
    return 2
  pipelines(options)
  steps(options)
  return 0
