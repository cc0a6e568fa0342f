"""Which arms of a study are compared, and the differences between them."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from luab_jax.tools.study import metrics, plan
from luab_jax.tools.study.intervals import Interval, Sample
from luab_jax.tools.study.outcomes import Outcomes

Samples = Mapping[str, Sample]  # {metric: Sample} of an arm


class Comparison(NamedTuple):
  """A pair of arms, as 'compared with AGAINST, SUBJECT raises …'."""

  arm: str
  reference: str
  subject: str
  against: str


COMPARISONS = {
  'Do clicks help the linear head?': (
    Comparison('luab_linear', 'baseline', 'the point loss of the linear head', 'no clicks'),
    Comparison(
      'luab_linear',
      'linear_shuffled',
      'the point loss of the linear head',
      'clicks of other images',
    ),
    Comparison('linear_map', 'baseline', 'the map loss of the linear head', 'no clicks'),
  ),
  'Do clicks help the spatial head?': (
    Comparison(
      'luab_spatial', 'spatial_no_click', 'the point loss of the spatial head', 'no clicks'
    ),
    Comparison(
      'luab_spatial',
      'point_shuffled',
      'the point loss of the spatial head',
      'clicks of other images',
    ),
    Comparison('spatial_map', 'spatial_no_click', 'the map loss of the spatial head', 'no clicks'),
    Comparison(
      'spatial_map', 'map_shuffled', 'the map loss of the spatial head', 'clicks of other images'
    ),
    Comparison('spatial_map', 'map_uniform', 'the map loss of the spatial head', 'random clicks'),
    Comparison('spatial_map', 'luab_spatial', 'the map loss of the spatial head', 'the point loss'),
  ),
  'What does the spatial head change?': (
    Comparison(
      'spatial_no_click',
      'spatial_baseline',
      'the spatial head alone',
      'the linear head without clicks',
    ),
    Comparison(
      'luab_spatial',
      'spatial_baseline',
      'the spatial head with point loss',
      'the linear head without clicks',
    ),
    Comparison(
      'spatial_map',
      'spatial_baseline',
      'the spatial head with map loss',
      'the linear head without clicks',
    ),
  ),
}


def compare(config: ConfigDict, outcomes: Outcomes) -> dict[str, Any]:
  """Summarises the arms, their differences, how maps match boxes, and how points match clicks.

  Args:
    config: the config of the study.
    outcomes: the outcomes of its runs.
  Returns:
    Dict with Interval objects:
      arms: {arm: description, network, head, point_weight, map_weight, runs, metrics};
      comparisons: [{question, arm, reference, subject, against, metrics}];
      boxes: [{arm, kind, reference, split, map, cam, difference}], MaxBoxAccV2 of the maps of an
        arm and of the baseline's CAM;
      places: [{arm, split, click_error, and for each of metrics.CONSTANTS its mean and the
        difference of the click error from it}].
  """
  names, networks = plan.arms(config), plan.networks(config)
  samples = {name: outcomes.samples(folders(config, name)) for name in names}
  arms = {}
  for name in names:
    arm, study = plan.ARMS[name], config.study
    weight = study.linear_point_weight if arm.head == 'linear' else study.spatial_point_weight
    arms[name] = {
      'description': arm.description,
      'network': networks[arm.network],
      'head': arm.head,
      'point_weight': weight if arm.loss == 'point' else 0.0,
      'map_weight': study.map_weight if arm.loss == 'map' else 0.0,
      'runs': {s: outcomes.runs[plan.run_folder(name, s)] for s in plan.seeds(config)},
      'metrics': summarise(samples[name]),
    }
  return {
    'arms': arms,
    'comparisons': list(_comparisons(config, samples)),
    'boxes': list(_boxes(config, samples)),
    'places': list(_places(samples)),
  }


def folders(config: ConfigDict, arm: str, *sweep_and_value: Any) -> list[str]:
  """The run folders of an arm, or of an arm at one value of a sweep, one per seed."""
  return [plan.run_folder(arm, seed, *sweep_and_value) for seed in plan.seeds(config)]


def summarise(samples: Samples) -> dict[str, Interval]:
  """{metric: Interval} of an arm."""
  return {metric: metrics.to_interval(metric, sample) for metric, sample in samples.items()}


def subtract(samples: Samples, reference: Samples) -> dict[str, Interval]:
  """{metric: Interval} of the differences samples - reference, paired by seed and image."""
  return {
    metric: metrics.to_interval(metric, sample.minus(reference[metric]), difference=True)
    for metric, sample in samples.items()
    if metric in reference and not metrics.is_constant(metric)
  }


def _comparisons(config: ConfigDict, samples: Mapping[str, Samples]) -> Iterator[dict[str, Any]]:
  for question, comparisons in COMPARISONS.items():
    for comparison in comparisons:
      reference = comparison.reference
      if reference == 'spatial_baseline':
        reference = plan.baseline_of(config, 'spatial')
      if comparison.arm in samples and reference in samples:
        difference = subtract(samples[comparison.arm], samples[reference])
        yield {
          'question': question,
          **comparison._asdict(),
          'reference': reference,
          'metrics': difference,
        }


def _boxes(config: ConfigDict, samples: Mapping[str, Samples]) -> Iterator[dict[str, Any]]:
  for name, found in samples.items():
    arm = plan.ARMS[name]
    reference = plan.baseline_of(config, arm.network)
    if name == reference or arm.control != 'none' or reference not in samples:
      continue
    for metric, sample in found.items():
      split, short = metrics.split_and_name(metric)
      kind = short.removeprefix('maxboxacc_v2_')
      cam = samples[reference].get(f'{split}/maxboxacc_v2_cam')
      if short.startswith('maxboxacc_v2_') and (kind == 'cam') == (arm.head == 'linear') and cam:
        yield {
          'arm': name,
          'kind': kind,
          'reference': reference,
          'split': split,
          'map': metrics.to_interval(metric, sample),
          'cam': metrics.to_interval(metric, cam),
          'difference': metrics.to_interval(metric, sample.minus(cam), difference=True),
        }


def _places(samples: Mapping[str, Samples]) -> Iterator[dict[str, Any]]:
  for name, found in samples.items():
    for metric, sample in found.items():
      split, short = metrics.split_and_name(metric)
      if short == 'click_error':
        yield {
          'arm': name,
          'split': split,
          short: metrics.to_interval(metric, sample),
          **{
            constant: {
              'mean': float(other.means.mean()),
              'difference': metrics.to_interval(metric, sample.minus(other), difference=True),
            }
            for constant in metrics.CONSTANTS
            if (other := found.get(f'{split}/{constant}'))
          },
        }


def compare_sweep(config: ConfigDict, outcomes: Outcomes, sweep: str) -> dict[str, Any]:
  """The arms of a sweep at each of its values, and the gain over the same head without clicks."""
  values, pairs = sorted(config.study[sweep]), plan.sweep_pairs(config)
  swept = {*pairs, *pairs.values()} if sweep == 'data_fractions' else pairs.keys()

  def of(arm: str, *sweep_and_value: Any) -> Samples:
    return outcomes.samples(folders(config, arm, *sweep_and_value))

  def gain(arm: str, without: str, value: float) -> dict[str, Interval]:
    # Without clicks there is one run for all byproduct fractions.
    reference = (sweep, value) if sweep == 'data_fractions' else ()
    return subtract(of(arm, sweep, value), of(without, *reference))

  return {
    'values': values,
    'arms': {
      arm: [summarise(of(arm, sweep, value)) for value in values]
      for arm in plan.ARMS
      if arm in swept
    },
    'gain': {
      arm: [gain(arm, without, value) for value in values] for arm, without in pairs.items()
    },
  }
