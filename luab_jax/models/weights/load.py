"""The start from weights of others: `--config.init_from=FILE`."""

import pathlib

from luab_jax.errors import UserError
from luab_jax.models import VITS
from luab_jax.models.weights import files, timm_names, vit_names


def start_from(path, model_config, variables):
  """Puts the weights of a file into fresh variables.

  Args:
    path: of a ResNet's or ViT's weights: .safetensors or .pth with the names of timm, torchvision
      or `--mode=export`, or .npz of augreg or big_vision.
    model_config: the `model` part of the config.
    variables: params and batch_stats as the model's `init` gives them.

  Returns:
    (variables with the file's arrays in float32, lines that say what was loaded, what was skipped
    and what keeps its start values).

  Raises:
    UserError: the file cannot be read, holds another model, or saw pictures normalised otherwise.
  """
  path = pathlib.Path(path).expanduser()
  file = files.read(path)
  _check_normalisation(path, file, model_config)
  state = file.arrays
  if file.kind == 'npz':
    state = vit_names.from_flax(state, path)
  elif 'encoder.pos_embedding' in state:
    state = vit_names.from_torchvision(state)
  # As left by torch's wrappers for several GPUs and for compilation.
  state = {
    name.removeprefix('_orig_mod.').removeprefix('module.').removeprefix('_orig_mod.'): value
    for name, value in state.items()
  }
  done = timm_names.convert(state, model_config.name, variables, source=path)
  return done.variables, _describe(path, state, done, file, model_config)


def _check_normalisation(path, file, model_config):
  expected = file.metadata.get('normalisation', 'half' if file.kind == 'npz' else '')
  if expected not in ('', model_config.normalisation):
    raise UserError(
      f"{path}: these weights expect pictures with model.normalisation='{expected}', the config "
      f"has '{model_config.normalisation}'; add --config.model.normalisation={expected}"
    )


def _describe(path, state, done, file, model_config):
  """Two lines, or three where a choice is left to the user."""
  numbers = sum(state[name].size for name in done.loaded)
  renewed = '; '.join(f'{part} ({why})' for part, why in done.renewed.items())
  lines = [
    f'init_from {path}: {len(done.loaded)} arrays of {numbers:,} numbers loaded'
    + (f', position embeddings resized {done.resized}' if done.resized else ''),
    f'  new: {renewed}; skipped: {_skipped(done.skipped)}',
  ]
  if model_config.name not in VITS:
    return lines
  if 'normalisation' not in file.metadata and model_config.normalisation == 'imagenet':
    lines.append(
      "  are these timm's augreg weights, or others with mean 0.5? Then start again with "
      '--config.model.normalisation=half'
    )
  if model_config.head == 'spatial' and 'the classifier' not in done.renewed:
    lines.append(
      '  the classifier was trained on the class token; the spatial head gives it the patches'
    )
  return lines


def _skipped(names):
  counters = [name for name in names if name.endswith('num_batches_tracked')]
  others = [name for name in names if name not in counters]
  if counters:
    others.append(f'{len(counters)} step counters of BatchNorm')
  return ', '.join(others) or 'nothing'
