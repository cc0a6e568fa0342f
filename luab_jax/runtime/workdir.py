"""The workdir of a run: its lock, the experiment it belongs to, and atomic writes into it."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.runtime import hosts, lock

# Keys that may differ between the start of a run and its continuation: they change neither the
# model, nor the order of the data, nor the contents of a checkpoint.
CHANGEABLE = (
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
  'localization.',
  'robustness.',
  'study.',
)


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Creates the workdir if necessary and locks it for one run, or one study, at a time.

  Raises:
    UserError: on all hosts, if another process holds the lock or the workdir cannot be written.
  """
  problem = None
  if hosts.is_main_host():
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      lock.acquire(workdir)
    except OSError as error:
      problem = UserError(f'cannot write to --workdir={workdir}: {error}')
    except UserError as error:
      problem = error
  if hosts.agree(problem is not None):
    raise problem or UserError(f'--workdir={workdir} cannot be locked: see process 0')
  try:
    yield
  finally:
    lock.release(workdir)


def prepare_workdir(
  workdir: pathlib.Path, config: ConfigDict, changeable: tuple[str, ...] = CHANGEABLE
) -> None:
  """Writes the workdir's config.json, or checks that it belongs to the same experiment.

  Args:
    workdir: existing folder of the run.
    config: of the run that is about to start or continue.
    changeable: keys, or prefixes of keys, that may differ from those in config.json.

  Raises:
    UserError: other keys differ, or the file cannot be written.
  """
  path = workdir / 'config.json'
  plain = json.loads(config.to_json_best_effort())
  if path.exists():
    ours, theirs = flatten(plain), flatten(_read(path))
    differing = [
      f'{key} (there {theirs.get(key)}, here {ours.get(key)})'
      for key in sorted(ours.keys() | theirs.keys())
      if ours.get(key) != theirs.get(key) and not key.startswith(changeable)
    ]
    if differing:
      raise UserError(
        f'{workdir} holds a run of another config: {"; ".join(differing[:5])}'
        + (f' and {len(differing) - 5} more' if len(differing) > 5 else '')
        + '; choose another --workdir'
      )
  elif hosts.is_main_host():
    write_json(path, plain)


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (OSError, ValueError, TypeError) as error:
    raise UserError(
      f'{path} is damaged ({error}): restore it, or delete it if you are sure that this is the '
      'config of the run'
    ) from error


def flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'data': {'flip': True}} -> {'data.flip': True}."""
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON atomically; see `write_text`."""
  write_text(path, json.dumps(content, indent=2) + '\n')


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file as UTF-8; see `write_bytes`."""
  write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file atomically: readers see the old or the new content, never half of it.

  Raises UserError if it cannot be written.
  """
  temporary = path.with_suffix('.tmp')
  try:
    temporary.write_bytes(content)
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise UserError(
      f'{path} cannot be written ({error}): free some disk space or fix the folder, and start the '
      'same command again'
    ) from error
