"""`--mode=export`: a trained network as safetensors with a model card."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import restore_newest
from luab_jax.models import NORMALISATIONS, VITS, eval_variables
from luab_jax.models.vit import sincos2d
from luab_jax.models.weights import timm_names
from luab_jax.runtime.workdir import write_json, write_text
from luab_jax.tools import output_folder

_CARD = """\
# {model} trained on {data}

Step {step:,}, {weights}. Head: {head}; number of classes: {classes} (classes.json, in the
order of the logits).

## Metrics

{metrics}

## Input

RGB, {size} x {size} px: resized to {shorter} px on the shorter side ({method}{antialias}), then
centre-cropped. Values in [0, 1], minus mean {mean}, divided by std {std}
(`model.normalisation = '{normalisation}'`).

## Use in timm

{timm}

## Use in luab_jax

    python run.py --config=... --config.model.name={model} \\
      --config.model.normalisation={normalisation} --config.init_from=model.safetensors

starts a new training run from the backbone and, if the number of classes is the same, the
classifier. The point layer is initialised from scratch.

## Files

- `model.safetensors`: backbone and classifier, float32, {names}.
- `point_head.safetensors`: the layer that predicts points, float32, PyTorch layout: {points}.{more}

## Licence

The publisher chooses the licence of the weights, within the terms of the training data.
ImageNet images: non-commercial research and education only (image-net.org). COCO images: Flickr
terms. Byproducts of ImageNet-AB and COCO-AB: Apache-2.0. Your own data: your terms. If training
started from pretrained weights (`init_from` below), their licence applies as well.

## Config

```json
{config}
```
"""


def export(workdir: str | pathlib.Path) -> pathlib.Path:
  """Writes the newest checkpoint of a run to WORKDIR/export/; does not need the dataset.

  Uses the EMA of parameters and BatchNorm statistics if there is one. Files: model.safetensors
  (backbone and classifier, float32, with timm's names and layouts, or ours for a model that timm
  does not have), config.json for timm and the Hugging Face hub, point_head.safetensors,
  classes.json and README.md, a model card.

  Args:
    workdir: folder of the run.
  Returns:
    The folder of the export.
  Raises:
    UserError: there is no checkpoint, or the folder cannot be written.
  """
  workdir = pathlib.Path(workdir)
  state, run_metadata = restore_newest(workdir)
  config = ConfigDict(run_metadata['config'])
  model, points = timm_names.state_dicts(eval_variables(state), config.model.name)
  if config.model.name in VITS and config.model.vit_positions == 'sincos2d':
    model['pos_embed'] = _fixed_positions(config)  # timm has no option for them
  metadata = {
    'format': 'pt',
    'model': config.model.name,
    'head': config.model.head,
    'normalisation': config.model.normalisation,
  }
  class_names = run_metadata['dataset']['class_names']
  folder = workdir / 'export'
  try:
    with output_folder.replacing(folder, 'export') as unfinished:
      for name, arrays in (('model', model), ('point_head', points)):
        content = safetensors.numpy.save(arrays, metadata=metadata)
        (unfinished / f'{name}.safetensors').write_bytes(content)
      write_json(unfinished / 'classes.json', class_names)
      if config.model.name in timm_names.TIMM_MODELS:
        write_json(unfinished / 'config.json', _timm_config(config, class_names))
      card = _format_card(workdir, state, run_metadata, config, points)
      write_text(unfinished / 'README.md', card)
  except OSError as error:
    raise UserError(f'{folder} cannot be written: {error}') from error
  return folder


def _fixed_positions(config: ConfigDict) -> np.ndarray:
  width, _, _, patch_size = VITS[config.model.name]
  side = config.data.image_size // patch_size
  return np.array(sincos2d(side, side, width, class_token=config.model.vit_pool == 'token'))


def _format_card(
  workdir: pathlib.Path,
  state: Mapping[str, Any],
  run_metadata: Mapping[str, Any],
  config: ConfigDict,
  points: Mapping[str, np.ndarray],
) -> str:
  mean, std = NORMALISATIONS[config.model.normalisation]
  data, step = config.data, int(state['step'])
  in_timm = config.model.name in timm_names.TIMM_MODELS
  return _CARD.format(
    model=config.model.name,
    head=config.model.head,
    data=data.name,
    step=step,
    weights='averaged parameters (EMA)' if state['ema_params'] else 'parameters without averaging',
    classes=len(run_metadata['dataset']['class_names']),
    metrics=_metrics_table(workdir, step),
    size=data.image_size,
    shorter=data.eval_resize,
    method=data.resize_method,
    antialias=', antialiased' if data.antialias else '',
    mean=mean,
    std=std,
    normalisation=config.model.normalisation,
    timm=_timm_usage(config),
    names="timm's names and layouts" if in_timm else "luab_jax's names, Flax's layouts",
    more='\n- `config.json`: architecture, classes and input for timm.' if in_timm else '',
    points=', '.join(f'{name} {list(value.shape)}' for name, value in points.items()),
    config=json.dumps(run_metadata['config'], indent=2),
  )


def _metrics_table(workdir: pathlib.Path, step: int) -> str:
  """The metrics of summary.json as a Markdown table, if they belong to this step."""
  path = workdir / 'summary.json'
  summary = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
  if summary.get('step') != step:
    return 'None: this step was not evaluated (`--mode=eval`, then `--mode=export` again).'
  rows = [
    f'| {split} | {name} | {value:.4g} |'
    for split, metrics in summary['results'].items()
    for name, value in metrics.items()
    if isinstance(value, (int, float))
  ]
  return '\n'.join(['| split | metric | value |', '|---|---|---|', *rows])


def _timm_config(config: ConfigDict, class_names: Sequence[str]) -> dict[str, Any]:
  """config.json as timm and the Hugging Face hub read it."""
  data, model = config.data, config.model
  mean, std = NORMALISATIONS[model.normalisation]
  args: dict[str, Any] = {'img_size': data.image_size} if model.name in VITS else {}
  if model.name in VITS and (model.vit_pool == 'gap' or model.head == 'spatial'):
    args |= {'global_pool': 'avg', 'fc_norm': False, 'class_token': model.vit_pool != 'gap'}
  return {
    'architecture': timm_names.TIMM_MODELS[model.name],
    'num_classes': len(class_names),
    'label_names': list(class_names),
    'model_args': args,
    'pretrained_cfg': {
      'input_size': [3, data.image_size, data.image_size],
      'interpolation': data.resize_method,
      'crop_pct': data.image_size / data.eval_resize,
      'crop_mode': 'center',
      'mean': mean,
      'std': std,
    },
  }


def _timm_usage(config: ConfigDict) -> str:
  """How to load model.safetensors in timm, and what differs there."""
  name, head = config.model.name, config.model.head
  if name not in timm_names.TIMM_MODELS:
    return f"timm has no {name}: this file uses luab_jax's names."
  text = (
    "    model = timm.create_model('local-dir:PATH', pretrained=True)\n\n"
    'loads this folder strictly, with the classes and input settings of config.json; from the\n'
    'Hugging Face hub, use `hf-hub:OWNER/NAME`.'
  )
  if head == 'linear':
    return f'{text} The logits match those of luab_jax.'
  features = 'the features [B,D,h,w] of `model.forward_features`'
  if name.startswith('vit'):
    tokens = '' if config.model.vit_pool == 'gap' else ' (all but the first)'
    features = f'the patch tokens of `model.forward_features`{tokens} as [B,D,h,w]'
  if name.startswith('convnext'):
    features = '`model.head.norm` of the features [B,D,h,w] of `model.forward_features`'
  return (
    f'{text}\nThe features match those of luab_jax, the logits do not: the spatial head pools the '
    'features by attention\nbefore the classifier, timm averages them. '
    f'With `f` {features} and\n`a` attention.weight of point_head.safetensors, '
    "`p = einsum('kd,bdhw->bkhw', a, f).flatten(2).softmax(2)` are the\nmaps. The mean of the maps "
    'over k (multi-label: map k for class k) pools `f` for the classifier.'
  )
