"""The evaluation suite in report.html: ImageNet's shifted versions, and what is not prepared."""

from luab_jax.evaluate import robustness
from luab_jax.report import html, plots
from luab_jax.report.html import Section, Table

CORRUPTED, BACKGROUNDS = 'imagenet2012_corrupted', 'backgrounds_challenge'
# What a set is, in half a line; the sources stand in robustness.py.
SAYS = {
  'imagenet2012': 'the validation images themselves, to hold the others against',
  'imagenet2012_real': 'the same images, checked again: any of several labels is right (ReaL)',
  'imagenet_v2/matched-frequency': 'collected anew, people agreeing on them as on the originals',
  'imagenet_v2/threshold-0.7': 'collected anew, those that most people agreed on',
  'imagenet_v2/topimages': 'collected anew, those that people agreed on best',
  'imagenet_r': 'art, cartoons, toys and other renditions of 200 classes',
  'imagenet_a': 'photographs chosen because they fooled a ResNet-50; 200 classes',
  'imagenet_sketch': 'black-and-white sketches',
  'siscore/rotation': 'objects pasted onto other backgrounds, rotated',
  'siscore/size': 'objects pasted onto other backgrounds, in several sizes',
  'siscore/location': 'objects pasted onto other backgrounds, in several places',
  CORRUPTED: 'the validation images under 15 corruptions of 5 strengths: their mean (ImageNet-C)',
}
VARIATIONS = {
  'original': 'the images as they are, in 9 classes (ImageNet-9)',
  'mixed_same': 'the object on a background of its own class',
  'mixed_rand': 'the object on a background of any class',
  'mixed_next': 'the object on a background of the next class',
  'only_fg': 'the object on black',
  'no_fg': 'the background, the shape of the object cut out in black',
  'only_bg_b': "the background, the object's box blacked out",
  'only_bg_t': "the background, the object's box covered with more of it",
}


def robustness_sections(results, not_prepared, sets):
  """The section on the sets of the suite.

  Args:
    results: {report name: figures} of a run, splits of the training data set among them.
    not_prepared: {set: 'what is missing: `command`'} of summary.json.
    sets: `config.robustness.sets`.
  Returns:
    A list of one Section; [] without any set.
  """
  if not sets:
    return []
  found = suite(results, sets)
  tables = []
  rows = [
    [
      name,
      f'{figures["examples"]:,}',
      _percent(figures.get('top1')),
      _percent(figures.get('top5')),
      SAYS.get(name, ''),
    ]
    for name, figures in found.items()
    if name != BACKGROUNDS
  ]
  if rows:
    tables.append(Table(['set', 'images', 'top-1', 'top-5', 'what it is'], rows))
  charts = []
  if CORRUPTED in found:
    tables.append(_corruption_table(found[CORRUPTED]))
    charts += _corruption_chart(found[CORRUPTED]['top1_by_corruption'])
  if found.get(BACKGROUNDS):
    tables.append(_backgrounds_table(found[BACKGROUNDS]))
  text = [
    'The same model, not trained further, on images that differ from those it was trained on.'
    if found
    else 'None of the sets is prepared yet.'
  ]
  if not_prepared:
    text.append(
      'Not everything is there: what is missing stands below, with the command that '
      'prepares it. After that, --mode=eval adds it to this page.'
    )
  return [
    Section(
      "ImageNet's shifted versions",
      text,
      tables=tables,
      pictures=charts,
      layout='charts',
      commands=[_command(*item) for item in not_prepared.items()],
    )
  ]


def suite(results, sets):
  """The part of {report name: figures} that belongs to `config.robustness.sets`, in its order."""
  return {
    name: results[name] for chosen in sets for name in results if name.partition('/')[0] == chosen
  }


def _percent(share):
  return '–' if share is None else f'{100 * share:.1f} %'


def _corruption_table(figures):
  if 'mCE' in figures:
    mean = 'over 15 corruptions and 5 strengths; those called extra below do not count'
    error = "mean corruption error: errors relative to AlexNet's, which has 100 %; less is better"
  else:
    mean = error = 'not all of the 15 corruptions are there'
  return Table(
    ['corruptions (ImageNet-C)', 'value', 'what it is'],
    [
      ['mean top-1', _percent(figures.get('top1')), mean],
      ['mCE', _percent(figures.get('mCE')), error],
    ],
  )


def _corruption_chart(by_corruption):
  """[chart] of the corruptions that are there, the four extra ones last; [] without any."""
  if not by_corruption:
    return []
  names = [
    name.replace('_', ' ') + (' (extra)' if name in robustness.EXTRA_CORRUPTIONS else '')
    for name in by_corruption
  ]
  shares = [100 * share for share in by_corruption.values()]
  title = 'Top-1 by corruption, mean over strengths, %'
  told = ', '.join(f'{name} {share:.1f} %' for name, share in zip(names, shares, strict=True))
  return [html.chart(plots.chart_of_bars(title, names, shares, digits=1), f'{title}: {told}')]


def _backgrounds_table(figures):
  rows = [
    [f'top-1, {name.replace("_", "-")}', _percent(figures[f'top1_{name}']), meaning]
    for name, meaning in VARIATIONS.items()
    if f'top1_{name}' in figures
  ]
  if 'bg_gap' in figures:
    rows.append(
      [
        'BG-Gap',
        f'{100 * figures["bg_gap"]:.1f} points',
        'mixed-same minus mixed-rand: what the background decides; less is better',
      ]
    )
  if 'challenge' in figures:
    rows.append(
      [
        'challenge score',
        _percent(figures['challenge']),
        'objects that the model gets right on every single background; more is better',
      ]
    )
  head = [f'Backgrounds Challenge ({figures["examples"]:,} images)', 'value', 'what it is']
  return Table(head, rows)


def _command(name, what):
  """(what is missing, command) of 'what is missing: `command`'."""
  absent, _, command = what.partition(': `')
  return f'{name} is not prepared; missing: {absent}', command.removesuffix('`')
