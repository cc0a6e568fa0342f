"""Section of report.html on ImageNet's robustness sets, and on those that are not prepared."""

from collections.abc import Mapping, Sequence

from luab_jax.evaluate import robustness
from luab_jax.evaluate.robustness import Metrics
from luab_jax.report import charts
from luab_jax.report.html import Image, Section, Table

CORRUPTED, BACKGROUNDS = 'imagenet2012_corrupted', 'backgrounds_challenge'
# Sources: see evaluate/robustness.py.
DESCRIPTIONS = {
  'imagenet2012': 'the original validation images, for comparison',
  'imagenet2012_real': 'the same images with reassessed, possibly several labels (ReaL)',
  'imagenet_v2/matched-frequency': 'new images, with the annotator agreement of the originals',
  'imagenet_v2/threshold-0.7': 'new images with high annotator agreement',
  'imagenet_v2/topimages': 'new images with the highest annotator agreement',
  'imagenet_r': 'art, cartoons, toys and other renditions of 200 classes',
  'imagenet_a': 'natural images that a ResNet-50 misclassifies; 200 classes',
  'imagenet_sketch': 'black-and-white sketches',
  'siscore/rotation': 'objects on other backgrounds, rotated',
  'siscore/size': 'objects on other backgrounds, in several sizes',
  'siscore/location': 'objects on other backgrounds, at several positions',
  CORRUPTED: 'mean over 15 corruptions at 5 severities of the validation images (ImageNet-C)',
}
VARIATIONS = {
  'original': 'unmodified images in 9 classes (ImageNet-9)',
  'mixed_same': 'object on a background of its own class',
  'mixed_rand': 'object on a background of a random class',
  'mixed_next': 'object on a background of the next class',
  'only_fg': 'object on black',
  'no_fg': 'background, with the silhouette of the object in black',
  'only_bg_b': 'background, with the bounding box of the object in black',
  'only_bg_t': 'background, with the bounding box of the object covered by tiled background',
}


def robustness_sections(
  results: Mapping[str, Metrics], not_prepared: Mapping[str, str], sets: Sequence[str]
) -> list[Section]:
  """The section on the robustness sets.

  Args:
    results: {split: metrics} of a run, including the splits of the training dataset.
    not_prepared: {set: 'what is missing: `command`'} of summary.json.
    sets: `config.robustness.sets`.
  Returns:
    A list of one Section; [] without any set.
  """
  if not sets:
    return []
  results = robustness_results(results, sets)
  tables, images = [], []
  if rows := [_row(name, metrics) for name, metrics in results.items() if name != BACKGROUNDS]:
    tables.append(Table(['set', 'images', 'top-1', 'top-5', 'description'], rows))
  if corrupted := results.get(CORRUPTED):
    tables.append(_corruption_table(corrupted))
    if by_corruption := corrupted['top1_by_corruption']:
      images.append(_corruption_chart(by_corruption))
  if backgrounds := results.get(BACKGROUNDS):
    tables.append(_backgrounds_table(backgrounds))
  text = ['None of the sets is prepared yet.']
  if results:
    text = ['The same model, without further training, on images from shifted distributions.']
  if not_prepared:
    text.append(
      'Missing sets are listed below with the command that prepares them; --mode=eval then adds '
      'them to this page.'
    )
  return [
    Section(
      'Robustness: distribution shifts of ImageNet',
      text,
      tables=tables,
      images=images,
      layout='charts',
      commands=[_split_command(*item) for item in not_prepared.items()],
    )
  ]


def robustness_results(results: Mapping[str, Metrics], sets: Sequence[str]) -> dict[str, Metrics]:
  """The entries of {split: metrics} that belong to `config.robustness.sets`, in its order."""
  return {
    name: results[name] for chosen in sets for name in results if name.partition('/')[0] == chosen
  }


def _row(name: str, metrics: Metrics) -> list[str]:
  return [
    name,
    f'{metrics["examples"]:,}',
    _percent(metrics.get('top1')),
    _percent(metrics.get('top5')),
    DESCRIPTIONS.get(name, ''),
  ]


def _percent(fraction: float | None) -> str:
  return '–' if fraction is None else f'{fraction:.1%}'


def _corruption_table(metrics: Metrics) -> Table:
  mean = error = 'some of the 15 corruptions are missing'
  if 'mCE' in metrics:
    mean = 'over 15 corruptions and 5 severities, without the extra ones below'
    error = 'mean corruption error, relative to AlexNet (100%); lower is better'
  return Table(
    ['corruptions (ImageNet-C)', 'value', 'description'],
    [
      ['mean top-1', _percent(metrics.get('top1')), mean],
      ['mCE', _percent(metrics.get('mCE')), error],
    ],
  )


def _corruption_chart(by_corruption: dict[str, float]) -> Image:
  values = {
    name.replace('_', ' ') + ' (extra)' * (name in robustness.EXTRA_CORRUPTIONS): value
    for name, value in by_corruption.items()
  }
  return charts.bars('Top-1 accuracy by corruption, mean over severities', values, '.1%')


def _backgrounds_table(metrics: Metrics) -> Table:
  rows = [
    [f'top-1, {name.replace("_", "-")}', _percent(metrics[f'top1_{name}']), description]
    for name, description in VARIATIONS.items()
    if f'top1_{name}' in metrics
  ]
  if 'bg_gap' in metrics:
    gap = f'{100 * metrics["bg_gap"]:.1f} percentage points'
    rows.append(
      ['BG-Gap', gap, 'mixed-same minus mixed-rand: effect of the background; lower is better']
    )
  if 'challenge' in metrics:
    score = _percent(metrics['challenge'])
    rows.append(['challenge score', score, 'objects correct on every background; higher is better'])
  head = [f'Backgrounds Challenge ({metrics["examples"]:,} images)', 'value', 'description']
  return Table(head, rows)


def _split_command(name: str, missing: str) -> tuple[str, str]:
  """(what is missing, command) of 'what is missing: `command`'."""
  absent, _, command = missing.partition(': `')
  return f'{name} is not prepared; missing: {absent}', command.removesuffix('`')
