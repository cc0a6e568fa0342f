"""Initializes a model from pretrained weights: `--config.init_from=FILE`."""

import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models import VITS
from luab_jax.models.weights import files, timm_names, vit_names

# {(model has a class token, head the classifier was trained with, head now): what it now gets}
_NOTICES = {
  (True, 'linear', 'spatial'): 'the class token; the spatial head gives it the patches',
  (True, 'spatial', 'linear'): 'the patches; the linear head gives it the class token',
  (False, 'spatial', 'linear'): 'features pooled by attention; the linear head averages them',
}


def load_pretrained(
  path: str | os.PathLike, model_config: ConfigDict, variables: dict
) -> tuple[dict, list[str]]:
  """Loads the weights in a file into freshly initialized variables.

  Args:
    path: weights of a ResNet, ConvNeXt or ViT: .safetensors or .pth with the names of timm,
      torchvision or `--mode=export`, or .npz of augreg or big_vision.
    model_config: `config.model`.
    variables: params and batch_stats as returned by the model's `init`.

  Returns:
    (variables with the file's arrays in float32, lines that say what was loaded, what was skipped
    and what keeps its initial values).

  Raises:
    UserError: the file cannot be read, holds another model, or needs another normalisation.
  """
  path = pathlib.Path(path).expanduser()
  file = files.read(path)
  _check_normalisation(path, file, model_config)
  state = _unwrap(file.arrays)
  if file.kind == 'npz':
    state = vit_names.from_flax(state, path)
  elif 'encoder.pos_embedding' in state:
    state = vit_names.from_torchvision(state)
  done = timm_names.convert(state, model_config.name, variables, source=path)
  return done.variables, _describe(path, state, done, file, model_config)


def _unwrap(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Removes prefixes that all names share, such as module. (DataParallel) and _orig_mod."""
  first = next((name.partition('.')[0] + '.' for name in state if '.' in name), '')
  while first and all(name.startswith(first) or name == 'n_averaged' for name in state):
    state = {name.removeprefix(first): value for name, value in state.items()}
    first = next((name.partition('.')[0] + '.' for name in state if '.' in name), '')
  return state


def _check_normalisation(
  path: pathlib.Path, file: files.WeightFile, model_config: ConfigDict
) -> None:
  expected = file.metadata.get('normalisation', 'half' if file.kind == 'npz' else '')
  if expected not in ('', model_config.normalisation):
    raise UserError(
      f"{path}: these weights expect images with model.normalisation='{expected}', but the config "
      f"has '{model_config.normalisation}'; add --config.model.normalisation={expected}"
    )


def _describe(
  path: pathlib.Path,
  state: dict[str, np.ndarray],
  done: timm_names.Conversion,
  file: files.WeightFile,
  model_config: ConfigDict,
) -> list[str]:
  """Returns two lines, plus one for each thing that the user should check."""
  numbers = sum(state[name].size for name in done.loaded)
  initialized = '; '.join(f'{part} ({why})' for part, why in done.initialized.items())
  part = f' ({file.part})' if file.part else ''
  lines = [
    f'init_from {path}{part}: loaded {len(done.loaded)} arrays, {numbers:,} values'
    + (f', position embeddings resized {done.resized}' if done.resized else ''),
    f'  new: {initialized}; skipped: {_skipped(done.skipped)}',
  ]
  is_vit = model_config.name in VITS
  if is_vit and 'normalisation' not in file.metadata and model_config.normalisation == 'imagenet':
    lines.append(
      "  if these are timm's augreg weights, or others trained with mean 0.5, start again with "
      '--config.model.normalisation=half'
    )
  heads = file.metadata.get('head', 'linear'), model_config.head
  if 'the classifier' not in done.initialized and (
    notice := _NOTICES.get((is_vit and model_config.vit_pool == 'token', *heads))
  ):
    lines.append(f'  the classifier was trained on {notice}')
  return lines


def _skipped(names: list[str]) -> str:
  counters = [name for name in names if name.endswith('num_batches_tracked')]
  others = [name for name in names if name not in counters]
  if counters:
    others.append(f'{len(counters)} step counters of BatchNorm')
  return ', '.join(others) or 'nothing'
