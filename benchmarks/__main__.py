"""`python -m benchmarks NAME [OPTIONS]`; without a name: which there are.

Results go to benchmarks/results.jsonl; `python -m benchmarks table` makes docs/benchmarks.md of it.
"""

import importlib
import sys

from luab_jax import configure_process

# name, also of its module: what it is about
BENCHMARKS = {
  'input_pipeline': 'photographs to batches: our modes, PIL, decoding alone',
  'augment': 'what augmentation costs, beside crop and flip and beside the step',
  'step': 'LUAB over plain cross entropy; the share of time that training waits for data',
  'start': 'seconds from start to the first step, and from kill to training again',
  'resume': 'seconds that a resume in the middle of an epoch spends on reading what it skips',
  'scaling': '1, 2, 4, 8 virtual devices: communication, compile time',
  'gpu': 'training images/s on a GPU, beside timm under torch.compile',
  'imagenet_ab_build': 'time and memory of building imagenet_ab',
  'coco_ab_read': 'time and memory of reading coco_ab_v1_0.json at its real size',
  'backgrounds_challenge_build': 'time and memory of building backgrounds_challenge',
  'annotate': 'the annotation server under load and SIGKILL: what is lost, how long it takes',
  'augment_parity': "our augmentation against torchvision's: the same pixels and targets?",
  'timm_parity': "our ResNet and ViT against timm's: the same numbers?",
  'table': 'writes docs/benchmarks.md from the newest results',
}


def main():
  """Runs one benchmark; its own options follow its name."""
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name not in BENCHMARKS:
    print('python -m benchmarks NAME [--help]')
    print('\n'.join(f'  {known:28} {line}' for known, line in BENCHMARKS.items()))
    if name in ('', '-h', '--help'):
      return 0
    print(f'there is no benchmark {name!r}', file=sys.stderr)
    return 2
  # Nothing has imported what it measures; the processes that it starts inherit the variables.
  configure_process()
  module = importlib.import_module(f'benchmarks.{name}')
  sys.argv = [f'python -m benchmarks {name}', *sys.argv[2:]]
  return module.main()


if __name__ == '__main__':
  sys.exit(main())
