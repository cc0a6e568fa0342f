"""A trained network as files for others: `--mode=export`."""

import json
import pathlib

import safetensors.numpy
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models import NORMALISATIONS
from luab_jax.models.weights import timm_names
from luab_jax.runtime.checkpoint import Checkpoints
from luab_jax.runtime.workdir import write_json, write_text

_CARD = """\
# {model} trained on {data}

Step {step:,}, {weights}. Head: {head}; {classes} classes (classes.json, in the order of the
logits).

## Figures

{figures}

## Input

RGB, {size} x {size} px: {shorter} px on the shorter side ({method}{antialias}), the centre cut out.
Values in [0, 1], then minus {mean}, divided by {std} (`model.normalisation = '{normalisation}'`).

## Use in timm

{timm}

## Use in luab_jax

    python run.py --config=... --config.model.name={model} \\
      --config.model.normalisation={normalisation} --config.init_from=model.safetensors

starts another training from the backbone and, where there are {classes} classes, the classifier;
the point layer starts new.

## Files

- `model.safetensors`: {names}.
- `point_head.safetensors`: the layer that predicts the point, float32, PyTorch's layout: {points}.

## Licence

The licence of the weights is for whoever publishes them to state, within the terms of the training
data. ImageNet's images: non-commercial research and education only (image-net.org). COCO's images:
Flickr's terms. Byproducts of ImageNet-AB and COCO-AB: Apache-2.0. Data of your own: your terms. If
the training began from pretrained weights (`init_from` below), their licence applies as well.

## Config

```json
{config}
```
"""


def export(workdir) -> pathlib.Path:
  """Writes the newest checkpoint of a run to WORKDIR/export/; the data are not needed.

  The averaged parameters (EMA) are taken where there are any. Files: model.safetensors (backbone
  and classifier, float32, timm's names and layouts, or our names for a model that timm does not
  have), point_head.safetensors, classes.json and README.md, a model card.

  Args:
    workdir: of the run.
  Returns:
    The folder.
  Raises:
    UserError: there is no checkpoint, or the folder cannot be written.
  """
  workdir = pathlib.Path(workdir)
  state, run_metadata = _newest(workdir)
  config = ConfigDict(run_metadata['config'])
  config.model.normalisation = config.model.get('normalisation', 'imagenet')  # not in early runs
  variables = {
    'params': state['ema_params'] or state['params'],
    'batch_stats': state['batch_stats'],
  }
  model, points = timm_names.state_dicts(variables, config.model.name)
  metadata = {
    'format': 'pt',
    'model': config.model.name,
    'head': config.model.head,
    'normalisation': config.model.normalisation,
  }
  folder = workdir / 'export'
  try:
    folder.mkdir(exist_ok=True)
    _write_arrays(folder / 'model.safetensors', model, metadata)
    _write_arrays(folder / 'point_head.safetensors', points, metadata)
  except OSError as error:
    raise UserError(f'{folder} cannot be written: {error}') from error
  write_json(folder / 'classes.json', run_metadata['classes'])
  card = _card(workdir, int(state['step']), bool(state['ema_params']), run_metadata, config, points)
  write_text(folder / 'README.md', card)
  return folder


def _newest(workdir):
  if not (workdir / 'checkpoints').is_dir():
    raise UserError(f'{workdir} holds no checkpoint to export: train first, with --mode=train')
  checkpoints = Checkpoints(workdir / 'checkpoints', keep=1, read_only=True)
  try:
    found = checkpoints.restore()
  finally:
    checkpoints.close()
  if found is None:
    raise UserError(f'{workdir} holds no checkpoint to export: train first, with --mode=train')
  if 'classes' not in found[1]:
    raise UserError(
      f'{workdir} is of an early version of luab_jax, which did not save the classes: train again'
    )
  return found


def _write_arrays(path, arrays, metadata):
  temporary = path.with_suffix('.tmp')
  temporary.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
  temporary.replace(path)


def _card(workdir, step, averaged, run_metadata, config, points):
  mean, std = NORMALISATIONS[config.model.normalisation]
  data, known = config.data, config.model.name in timm_names.TIMM_MODELS
  names = "in timm's names and layouts" if known else "in luab_jax's names and Flax's layouts"
  return _CARD.format(
    model=config.model.name,
    head=config.model.head,
    data=data.name,
    step=step,
    weights='the average of the parameters (EMA)' if averaged else 'the parameters themselves',
    classes=len(run_metadata['classes']),
    figures=_figures(workdir, step),
    size=data.image_size,
    shorter=data.eval_resize,
    method=data.resize_method,
    antialias=', antialiased' if data.antialias else '',
    mean=mean,
    std=std,
    normalisation=config.model.normalisation,
    timm=_timm_use(config, len(run_metadata['classes']), mean, std),
    names=f'backbone and classifier, float32, {names}',
    points=', '.join(f'{name} {list(value.shape)}' for name, value in points.items()),
    config=json.dumps(run_metadata['config'], indent=2),
  )


def _figures(workdir, step):
  """A table of summary.json, if that is of this step."""
  path = workdir / 'summary.json'
  try:
    summary = json.loads(path.read_text(encoding='utf-8'))
    results = summary['results'] if summary['step'] == step else {}
    rows = [
      f'| {split} | {name} | {value:.4g} |'
      for split, figures in results.items()
      for name, value in figures.items()
      if isinstance(value, (int, float))
    ]
  except (OSError, ValueError, LookupError, TypeError, AttributeError):
    rows = []
  if not rows:
    return 'None: this step was not evaluated (`--mode=eval`, then `--mode=export` again).'
  return '\n'.join(['| set | figure | value |', '|---|---|---|', *rows])


def _timm_use(config, classes, mean, std):
  """How a PyTorch user loads model.safetensors, and what does not carry over."""
  name, head = config.model.name, config.model.head
  if name not in timm_names.TIMM_MODELS:
    return f'timm has no {name}: this file has the names of luab_jax.'
  vit = name.startswith('vit')
  size = f', img_size={config.data.image_size}' if vit else ''
  pool = ", global_pool='avg', fc_norm=False" if vit and head == 'spatial' else ''
  text = (
    f"    model = timm.create_model('{timm_names.TIMM_MODELS[name]}', num_classes={classes}{size}"
    f"{pool},\n                              checkpoint_path='model.safetensors')\n\n"
    'It loads strictly. Give it pictures as described under Input'
    f' (`mean={mean}, std={std}`).'
  )
  if head == 'linear':
    return f'{text} Its logits are those of luab_jax.'
  return (
    f'{text}\nThe features are those of luab_jax, the logits are not quite: the spatial head pools '
    'them by attention\nbefore the classifier, timm evenly. '
    + (
      'With `f` the features [B,D,h,w] of `model.forward_features`'
      if not vit
      else 'With `f` the patch tokens of `model.forward_features`, without the first, as [B,D,h,w]'
    )
    + ' and `a`\nattention.weight of point_head.safetensors, '
    "`p = einsum('kd,bdhw->bkhw', a, f).flatten(2).softmax(2)` are the maps;\nthe mean of the maps "
    'over k (multi-label: map k for class k) pools `f` for the classifier.'
  )
