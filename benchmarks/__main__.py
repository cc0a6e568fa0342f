"""`python -m benchmarks NAME [OPTIONS]`; without a name, lists the benchmarks.

Results go to benchmarks/results.jsonl; `python -m benchmarks table` writes them to
docs/benchmarks.md.
"""

import importlib
import sys

from luab_jax import configure_process

# name of the benchmark and its module: what it measures
BENCHMARKS = {
  'input_pipeline': 'photographs to batches: our modes, PIL, decoding alone',
  'augment': 'the cost of augmentation, relative to crop and flip and to the training step',
  'step': 'LUAB over plain cross entropy; the share of time that training waits for data',
  'start': 'seconds from start to the first step, and from kill to training again',
  'resume': 'seconds that a resume within an epoch spends on reading skipped records',
  'scaling': '1, 2, 4, 8 virtual devices: communication, compile time',
  'gpu': 'training images/s on a GPU, compared with timm under torch.compile',
  'imagenet_ab_build': 'time and memory of building imagenet_ab',
  'coco_ab_read': 'time and memory of reading coco_ab_v1_0.json at its real size',
  'backgrounds_challenge_build': 'time and memory of building backgrounds_challenge',
  'annotate': 'the annotation server under load and SIGKILL: lost events and latencies',
  'augment_parity': "our augmentation against torchvision's: the same pixels and targets?",
  'timm_parity': "our ResNet, ViT and ConvNeXt against timm's: the same numbers?",
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
  # Nothing that is measured has been imported yet; child processes inherit the variables.
  configure_process()
  module = importlib.import_module(f'benchmarks.{name}')
  sys.argv = [f'python -m benchmarks {name}', *sys.argv[2:]]
  return module.main()


if __name__ == '__main__':
  sys.exit(main())
