"""Calculates step times on machines that were not available; the formulas are in docs/scaling.md.

Nothing here is measured. Hardware figures: NVIDIA H100 SXM data sheet (989.4 TFLOP/s bf16 dense,
3.35 TB/s, NVLink 900 GB/s in both directions together); Google Cloud's page on TPU v5e (197 TFLOP/s
bf16, 819 GB/s, 400 GB/s ICI in both directions together, 256 chips, 8 per host, two NICs of
100 Gbit/s per host).
"""

import dataclasses

# Parameters with a 1000-way classifier and two point outputs, operations per training image at
# 224 px (python -m benchmarks step), bytes of an average ImageNet JPEG.
MODELS = {'ResNet-50': (25_561_130, 23.8e9), 'ViT-S/16': (22_051_434, 27.9e9)}
JPEG_BYTES = 110e3
UTILISATIONS = (0.2, 0.5)  # of the peak: a range, as nothing was measured
MAX_SHARDS = 64  # of an epoch (luab_jax.data.shuffling): a host reads its rows' and one more
PIPELINE = 250  # images per second and core; see docs/benchmarks.md for what was measured


@dataclasses.dataclass
class Machine:
  """n chips, in hosts, and the links between chips."""

  name: str
  chips: int
  chips_per_host: int
  peak: float  # FLOP/s of a chip, bf16
  link: float  # bytes/s that a chip sends in one direction, all links together
  hops: int  # sequential ones in an all-reduce
  images: int  # per chip and step
  hop_seconds: float = 2e-6


MACHINES = (
  Machine('8 x H100 SXM, NVLink', 8, 8, 989.4e12, 450e9, 2 * 7, 256),
  Machine('TPU v5e-256', 256, 8, 197e12, 200e9, 2 * 2 * 15, 128),
)


def step_seconds(machine, flops, utilisation):
  """Seconds of computation per step on a chip."""
  return machine.images * flops / (machine.peak * utilisation)


def all_reduce_seconds(machine, parameters):
  """Seconds to sum float32 gradients over all chips: 2 (n-1)/n bytes / bandwidth + hops."""
  n = machine.chips
  return 2 * (n - 1) / n * 4 * parameters / machine.link + machine.hops * machine.hop_seconds


def rows():
  """Yields a dict for each machine, model and utilisation."""
  for machine in MACHINES:
    for model, (parameters, flops) in MODELS.items():
      for utilisation in UTILISATIONS:
        compute = step_seconds(machine, flops, utilisation)
        reduce = all_reduce_seconds(machine, parameters)
        rate = machine.chips * machine.images / (compute + reduce)
        hosts = machine.chips // machine.chips_per_host
        host = rate / hosts
        read = rate * min(MAX_SHARDS // hosts + 1, MAX_SHARDS) / MAX_SHARDS
        yield {
          'machine': machine.name,
          'model': model,
          'of the peak': f'{utilisation:.0%}',
          'compute, ms': f'{1e3 * compute:.1f}',
          'all-reduce, ms': f'{1e3 * reduce:.2f}',
          'communication, not overlapped': f'{reduce / (compute + reduce):.1%}',
          'images/s': f'{rate:,.0f}',
          'images/s per host': f'{host:,.0f}',
          'cores per host': f'{host / PIPELINE:,.0f}',
          'JPEGs decoded per host, GB/s': f'{host * JPEG_BYTES / 1e9:.1f}',
          'JPEGs read per host, GB/s': f'{read * JPEG_BYTES / 1e9:.1f}',
        }


def tables():
  """Returns the rows as Markdown tables."""
  found = list(rows())
  names = list(found[0])
  lines = [names, ['---'] * len(names), *([row[name] for name in names] for row in found)]
  return ['\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)]
