"""The texts of a study, such as its design and its limits, and its study.md and study.json."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from luab_jax.errors import UserError
from luab_jax.evaluate.evidence import shortcomings
from luab_jax.tools.study import metrics, plots, tables
from luab_jax.tools.study.intervals import Interval
from luab_jax.tools.study.tables import SWEEP_TITLES, to_markdown

MAPS_NOTE = (
  'The share of a map’s mass inside the ground-truth boxes (energy pointing game) rewards a map '
  'that collapses to one cell of the object; MaxBoxAccV2 asks whether the map has the extent of '
  'the object. Read them together.'
)
_SUBJECTS = {
  'the linear head': ('baseline', 'luab_linear'),
  'the point loss of the spatial head': ('spatial_no_click', 'luab_spatial'),
  'the map loss': ('spatial_no_click', 'spatial_map'),
  'wrong clicks': ('point_shuffled', 'map_shuffled'),
}


def write(result: Mapping[str, Any], workdir: pathlib.Path) -> None:
  """Writes study.json, study.md and the plots, and prints the verdicts.

  Args:
    result: as returned by `study.run_study`.
    workdir: folder of the study.

  Raises:
    UserError: the folder cannot be written.
  """
  content = json.dumps(result, indent=2, default=Interval.as_dict)
  try:
    (workdir / 'study.json').write_text(content + '\n', encoding='utf-8')
    (workdir / 'study.md').write_text(format_markdown(result), encoding='utf-8')
    names = [name for name in plots.metric_names(result) if name in metrics.PRIMARY]
    plots.plot_arms(result, names).savefig(workdir / 'study.png')
    for sweep in result['sweeps']:
      plots.plot_sweep(result, sweep).savefig(workdir / f'{sweep}.png')
  except OSError as error:
    raise UserError(
      f'{workdir} cannot be written ({error}): free some space or fix it, and start the study again'
    ) from error
  for line in warnings(result):
    print(line)
  for asked, sentences in result['verdicts'].items():
    print('\n'.join([asked, *(f'  {sentence}' for sentence in sentences)]))


def format_markdown(result: Mapping[str, Any]) -> str:
  """The study as a Markdown page; see `write`."""
  lines = [f'# {title(result)}', '', *_paragraphs([question(result), *design(result)])]
  for name, arm in result['arms'].items():
    lines.append(f'- **{name}**: {describe_arm(arm)}')
  lines += ['', '## What it shows', '', *_paragraphs(warnings(result))]
  for asked, sentences in result['verdicts'].items():
    lines += [f'### {asked}', '', *(f'- {sentence}' for sentence in sentences), '']
  lines += ['## Metrics', '', *_paragraphs(notes(result))]
  for heading, found in tables.metric_tables(result).items():
    lines += [f'### {heading}', '']
    for table in found:
      lines += [f'{table.caption}:', ''] * bool(table.caption) + [to_markdown(table)]
  lines += ['## Differences', '']
  for asked, table in tables.difference_tables(result).items():
    lines += [f'### {asked}', '', to_markdown(table)]
  for sweep in result['sweeps']:
    heading, constant = SWEEP_TITLES[sweep]
    lines += [f'## {heading}', '', constant, '']
    for table in tables.sweep_tables(result, sweep):
      lines += [f'### {table.caption}', '', to_markdown(table)]
  lines += ['## What it does not show', '', *(f'- {line}' for line in limits(result)), '']
  return '\n'.join(lines)


def _paragraphs(texts: list[str]) -> list[str]:
  return [line for text in texts for line in (text, '')]


def title(result: Mapping[str, Any]) -> str:
  """The heading of the pages."""
  return f'Do clicks help? {_networks(result)} on {result["data"]}'


def question(result: Mapping[str, Any]) -> str:
  """One paragraph below the title."""
  return (
    'A network is trained with and without the places where annotators clicked, with the same '
    'images, steps and seeds. Does it classify better, does it look at the object, and would '
    'wrong clicks work just as well? '
    f'{len(result["arms"])} arms, seeds {", ".join(map(str, result["seeds"]))}.'
  )


def hardest_split(result: Mapping[str, Any]) -> str:
  """The split on which the arms are least accurate; the first one if none has an accuracy."""
  accuracy: dict[str, list[float]] = {}
  for arm in result['arms'].values():
    for metric, value in arm['metrics'].items():
      split, name = metrics.split_and_name(metric)
      if name in metrics.ACCURACY and split in result['splits']:
        accuracy.setdefault(split, []).append(value.mean)
  return min(accuracy, key=lambda split: sum(accuracy[split]), default=next(iter(result['splits'])))


def warnings(result: Mapping[str, Any]) -> list[str]:
  """Warnings if this study is too small to tell whether clicks help."""
  lines = shortcomings(result['splits'], seeds=len(result['seeds']))
  return [f'Warning: {line}.' for line in lines]


def limits(result: Mapping[str, Any]) -> list[str]:
  """What a study does not show, in sentences."""
  unknown = [
    f'Not compared: {subject} ({" and ".join(missing)} left out).'
    for subject, arms in _SUBJECTS.items()
    if (missing := [arm for arm in arms if arm not in result['arms']])
  ]
  return [
    f'The results hold for {result["data"]}, {_networks(result)} and {result["total_steps"]:,} '
    'steps: other images, networks or longer training may give other answers.',
    'The loss weights λ are the same for all seeds and were not tuned here; if they were tuned on '
    'these test images, the gain is overestimated.',
    '“No difference shown” is not “no difference”: the interval says how large it may still be.',
    'Without any true difference, one comparison in twenty would still exclude 0 by chance.',
    *unknown,
  ]


def _networks(result: Mapping[str, Any]) -> str:
  return ' and '.join(dict.fromkeys(result['networks'].values()))


def describe_arm(arm: Mapping[str, Any]) -> str:
  """'spatial head with point loss, λ = 30; tiny_conv'."""
  weights = [f', λ = {arm[key]:g}' for key in ('point_weight', 'map_weight') if arm[key]]
  return f'{arm["description"]}{"".join(weights)}; {arm["network"]}'


def design(result: Mapping[str, Any]) -> list[str]:
  """Paragraphs on what was run."""
  seeds = ', '.join(map(str, result['seeds']))
  paragraphs = [
    f'{result["images"]:,} training images, {result["total_steps"]:,} steps with batch size '
    f'{result["batch_size"]}, seed{"s" * (len(result["seeds"]) > 1)} {seeds}; on '
    f'{", ".join(result["machines"])}, JAX {", ".join(result["jax"])}. Arms that are compared '
    'share the network, the images, their order and the number of steps.'
  ]
  if result['icon_label'] == 'drop_when_icon_cropped':
    paragraphs.append(
      'In all arms a class loses its label when its icon is cropped away (`data.icon_label`), in '
      "the controls when the control's icon is: even the baseline uses byproducts."
    )
  return paragraphs


def notes(result: Mapping[str, Any]) -> list[str]:
  """Paragraphs on how to read the numbers."""
  bootstrap = result['bootstrap']
  unit = (
    f' Images whose file names agree in `{bootstrap["unit"]}` count as one unit and are drawn '
    'together.'
    if bootstrap['unit']
    else ''
  )
  return [
    f'Means over the seeds, with {bootstrap["confidence"]:.0%} intervals in brackets: a bootstrap '
    f'of {bootstrap["draws"]:,} draws (random seed {bootstrap["seed"]}) over seeds and test '
    'images, paired between arms by seed and image and widened for few seeds (luab_jax/tools/study/'
    f'intervals.py).{unit} Where an image has no value of its own (mAP, benchmark sets, cost), the '
    'interval is Student’s t over the seeds alone. With fewer than three seeds or 50 images there '
    'is none.',
    'Click errors are fractions of the image side, and MaxBoxAccV2 averages over IoU 0.3, 0.5 and '
    '0.7. The intervals are not corrected for multiple comparisons. “–”: not measured or, like the '
    'click error of a head whose point is not trained, meaningless. The cost is the median over '
    'the log intervals of a run, including data loading.',
  ]
