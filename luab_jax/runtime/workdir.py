"""A run's folder: whose it is, and how files get into it whole."""

import contextlib
import json

from luab_jax.errors import UserError
from luab_jax.runtime import hosts

# Keys that may differ between the start of a run and its continuation: they change neither the
# model, nor the order of the data, nor what a checkpoint holds.
HARMLESS = (
  'num_epochs',
  'total_steps',
  'log_every',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_checkpoints',
  'keep_every_steps',
  'keep_best',
  'on_nan',
  'preemption_grace_seconds',
  'report_images',
  'wandb',
  'data.data_dir',
  'data.eval_splits',
  'robustness.',
  'study.',
)


def claim(workdir, config, harmless=HARMLESS):
  """Creates the run's folder, or checks that it belongs to the same experiment.

  Args:
    workdir: pathlib.Path.
    config: of the run that is about to start or continue.
    harmless: keys, or beginnings of keys, that may differ from the config found there.
  Raises:
    UserError: other keys differ; the folder cannot be written.
  """
  path = workdir / 'config.json'
  mine = flatten(json.loads(config.to_json_best_effort()))
  if path.exists():
    theirs = flatten(_read(path))
    differing = [
      f'{key} (there {theirs.get(key)}, here {mine.get(key)})'
      for key in sorted(mine.keys() | theirs.keys())
      if mine.get(key) != theirs.get(key) and not key.startswith(harmless)
    ]
    if differing:
      raise UserError(
        f'{workdir} holds a run of another config: {"; ".join(differing[:5])}'
        + (f' and {len(differing) - 5} more' if len(differing) > 5 else '')
        + '; choose another --workdir, or delete this one'
      )
  elif hosts.is_main_host():
    try:
      workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise UserError(f'cannot write to --workdir={workdir}: {error}') from error
    write_json(path, json.loads(config.to_json_best_effort()))


def _read(path):
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (OSError, ValueError, TypeError) as error:
    raise UserError(
      f'{path} is damaged ({error}): put it back as it was, or delete it if you are sure that this '
      'is the config of the run'
    ) from error


def flatten(tree, prefix=''):
  """{'data': {'flip': True}} -> {'data.flip': True}."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat


def write_json(path, content):
  """Writes JSON; see `write_text`."""
  write_text(path, json.dumps(content, indent=2) + '\n')


def write_text(path, text):
  """Writes a file so that a reader sees the old one or the new one, never half of it.

  Raises UserError where it cannot be written.
  """
  temporary = path.with_suffix('.tmp')
  try:
    temporary.write_text(text, encoding='utf-8')
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise UserError(
      f'{path} cannot be written ({error}): make room or mend the folder, and start the same '
      'command again'
    ) from error
