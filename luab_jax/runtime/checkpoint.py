"""Checkpoints by Orbax: any tree of arrays beside small JSON metadata. Knows no models.

The tree is saved unreplicated, so the number of devices and hosts may change between runs. The
metadata hold shape, dtype and digest of every array: Orbax itself has no end-to-end checksum and
restores an array with a flipped byte without complaint.
"""

import contextlib
import datetime
import hashlib
import math
import pathlib
import shutil
import sys
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tqdm
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from luab_jax.errors import UserError
from luab_jax.runtime import hosts

_ROOM_FOR_METADATA = 1 << 20  # bytes
# Lies in the folder as long as it is the one that was opened. If that is moved or deleted, the
# save under way makes a folder of the same name, in which the run would go on without its past.
_MARK = '.checkpoints_of_this_run'

# Orbax warns of this whenever a run is only looked at.
logging.get_absl_logger().addFilter(
  lambda record: 'Given directory is read only' not in record.getMessage()
)


def silence_orbax():
  """Keeps to itself what Orbax's threads print of a failed save: it is raised as well.

  Changes the process: the filter of absl's logger, and sys.unraisablehook.
  """
  logging.get_absl_logger().addFilter(lambda record: '/orbax/' not in record.pathname)
  others = sys.unraisablehook

  def hook(unraisable):
    # Of the arrays that were still being written when the first one failed.
    if str(unraisable.exc_value) != 'Event loop is closed':
      others(unraisable)

  sys.unraisablehook = hook


class Checkpoints:
  """The checkpoints of one run: saved in the background, some of them kept."""

  def __init__(
    self,
    directory,
    *,
    keep: int,
    save_every=1,
    keep_every=0,
    best='',
    results=None,
    read_only=False,
  ):
    """Opens the folder, which need not exist yet.

    Args:
      directory: where the step folders lie.
      keep: how many of the newest checkpoints stay; the newest always does.
      save_every: steps between two saves, see `is_due`.
      keep_every: checkpoints of steps that are multiples of it stay too; 0: none.
      best: '<split>/<figure>', for example 'validation/top1': the checkpoint with the highest
        value stays too, with '-' before it ('-heldout_clicks/click_error') the lowest. '': none.
      results: {step: {split: figures}} of the evaluations that were done before.
      read_only: change nothing there, not even what is damaged: a run may be under way.

    Raises:
      UserError: the folder cannot be written.
    """
    self._read_only = read_only
    self._save_every, self._best = save_every, _Best(best)
    for step, figures in (results or {}).items():
      with contextlib.suppress(UserError):  # of another config: this one's figures were others
        self._best.rate(step, figures)
    if '://' not in str(directory):
      directory = pathlib.Path(directory).resolve()
    self.directory = epath.Path(directory)
    self._options = ocp.CheckpointManagerOptions(
      preservation_policy=_preservation(keep, keep_every, self._best),
      save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
      cleanup_tmp_directories=True,
    )
    if read_only:
      self._options = ocp.CheckpointManagerOptions(
        read_only=True, create=False, save_interval_steps=0
      )
    self._open()

  def _open(self):
    try:
      self._manager = ocp.CheckpointManager(
        self.directory,
        options=self._options,
        item_handlers={
          'state': ocp.StandardCheckpointHandler(),
          'metadata': ocp.JsonCheckpointHandler(),
        },
      )
      if '://' not in str(self.directory) and not self._read_only:
        (self.directory / _MARK).touch()
    except OSError as error:  # its folder cannot be made, or an unfinished save not cleared away
      raise UserError(f'cannot write to {self.directory}: {error}') from error

  def latest_step(self) -> int | None:
    """The newest step that was saved completely, or None."""
    return self._manager.latest_step()

  def rate(self, step: int, results: dict):
    """Takes {split: figures} of a step; UserError if they lack the one that `best` names."""
    self._best.rate(step, results)

  def is_due(self, step: int) -> bool:
    """Whether to save now: at every k-th step, and where the best one is to be known."""
    return step % self._save_every == 0 or step in self._best.values

  def save(self, step: int, tree, metadata: dict):
    """Starts saving a tree of numpy arrays and JSON-serialisable metadata as `step`.

    Returns once the arrays are safe from later changes; the files appear atomically. Every
    process of a run calls it, the first one writes. A step that is there already is left alone.

    Raises:
      UserError: this save or the one before failed (full disk, folder gone …).
    """
    if step == self.latest_step():
      return
    tree = jax.tree.map(np.asarray, tree)  # Orbax refuses numpy's scalars
    try:
      self._check_room(tree)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(tree),
          metadata=ocp.args.JsonSave({'arrays': _describe(tree), **metadata}),
        ),
      )
    except Exception as error:  # as in `restore`: Orbax passes on whatever its threads met
      raise self._failed(error) from error

  def _check_room(self, tree):
    """Raises OSError where a save cannot succeed: Orbax's threads would fail one by one, loudly."""
    if '://' not in str(self.directory):
      with open(self.directory / _MARK, 'r+b', buffering=0) as file:
        file.write(b'.')
      needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _ROOM_FOR_METADATA
      free = shutil.disk_usage(self.directory).free
      if free < needed:
        raise OSError(f'{needed / 2**20:.1f} MiB are needed and {free / 2**20:.1f} MiB are free')

  def _failed(self, error):
    if jax.process_count() > 1 and hosts.is_process_loss(error):
      return error
    why = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
    return UserError(
      f'a checkpoint could not be saved in {self.directory} ({why}); those saved before stay: make '
      'room or mend the folder, and start the same command again'
    )

  def restore(self, template=None):
    """Reads the newest intact checkpoint, moving damaged newer ones into `damaged/`.

    Args:
      template: tree of numpy arrays of the structure, shapes and dtypes that were saved; None:
        whatever was saved, as nested dicts and lists.
    Returns:
      (tree of numpy arrays, metadata), or None if nothing was saved yet.
    Raises:
      UserError: the saved tree has another structure or other shapes, or every checkpoint is
        damaged.
    """
    if template is not None:
      template = jax.tree.map(np.asarray, template)
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      # What Orbax raises for a damaged folder ranges from KeyError to a bare Exception.
      try:
        metadata = self._manager.restore(
          step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())
        )
        saved = dict(metadata['metadata']['arrays'])
      except Exception as error:
        self._set_aside(step, f'its metadata are unreadable ({type(error).__name__}: {error})')
        continue
      if template is not None:
        self._check_structure(step, saved, template)
      try:
        state = self._manager.restore(
          step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
        )['state']
      except Exception as error:
        self._set_aside(step, f'its arrays are unreadable ({type(error).__name__}: {error})')
        continue
      changed = [name for name, text in _describe(state).items() if saved[name] != text]
      if changed:
        self._set_aside(step, f'{len(changed)} arrays changed on disk, the first is {changed[0]}')
        continue
      return state, metadata['metadata']
    if steps:
      moved = '' if self._read_only else ' and now lie in its damaged/ folder'
      raise UserError(
        f'all {len(steps)} checkpoints in {self.directory} were damaged{moved}; put an intact copy '
        'back, or start again in a new --workdir'
      )
    return None

  def _check_structure(self, step, saved, template):
    wanted = {name: text.split()[0] for name, text in _describe(template).items()}
    found = {name: text.split()[0] for name, text in saved.items()}
    differing = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
    if differing:
      name = differing[0]
      raise UserError(
        f'{self.directory / str(step)} belongs to another model or optimizer: {len(differing)} '
        f'arrays differ, the first is {name} (saved {found.get(name, "nothing")}, this config '
        f'has {wanted.get(name, "nothing")}); use the config it was trained with, or another '
        '--workdir'
      )

  def _set_aside(self, step, why):
    if self._read_only:
      tqdm.tqdm.write(
        f'checkpoint {step} is skipped: {" ".join(why.split())[:300]}', file=sys.stderr
      )
      return
    self._manager.close()
    if jax.process_index() == 0:
      why = ' '.join(why.split())[:300]
      tqdm.tqdm.write(f'checkpoint {step} is skipped, moved to damaged/: {why}', file=sys.stderr)
      # Out of the way, because Orbax would skip a later save of a step that is "there".
      target = self.directory / 'damaged'
      try:
        target.mkdir(exist_ok=True)
        count = len(list(target.iterdir()))
        (self.directory / str(step)).rename(target / f'{step}_{count}')
      except OSError as error:
        raise UserError(f'checkpoint {step} cannot be moved to {target}: {error}') from error
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      multihost_utils.sync_global_devices(f'damaged checkpoint {step}')
    self._open()

  def tidy(self):
    """Deletes what need not be kept, as every save does: a start may have ended within one.

    Raises UserError where a save under way fails, or a checkpoint cannot be deleted.
    """
    try:
      self._manager.wait_until_finished()
      found = [_Found(step) for step in sorted(self._manager.all_steps())]
      kept = self._options.preservation_policy.should_preserve(
        found, context=checkpoint_managers.PreservationContext()
      )
      for checkpoint, keep in zip(found, kept, strict=True):
        if not keep:
          self._manager.delete(checkpoint.step)
    except Exception as error:
      raise self._failed(error) from error

  def close(self):
    """Waits for saves under way; raises UserError if one failed."""
    try:
      self._manager.wait_until_finished()
      self._manager.close()
    except Exception as error:
      raise self._failed(error) from error


class _Found(NamedTuple):
  """A checkpoint as Orbax's policies see it; those used here ask for its step alone."""

  step: int
  metrics: dict | None = None
  time: datetime.datetime = datetime.datetime.min


def _preservation(keep, keep_every, best):
  """Which checkpoints stay: always the newest, unlike with Orbax's `max_to_keep` and `best_fn`."""
  policies = [checkpoint_managers.LatestN(max(keep, 1))]
  if keep_every:
    policies.append(checkpoint_managers.EveryNSteps(keep_every))
  return checkpoint_managers.AnyPreservationPolicy([*policies, best])


class _Best(checkpoint_managers.PreservationPolicy):
  """Keeps the checkpoint with the best figure; of equals the newest.

  Orbax's own `BestN` knows what was rated after the last start alone, and an evaluation may come
  after its checkpoint.
  """

  def __init__(self, name: str):
    """`name`: see `Checkpoints`."""
    self._name = name
    self.values: dict[int, float] = {}

  def rate(self, step, results):
    if not self._name:
      return
    split, _, name = self._name.removeprefix('-').rpartition('/')
    value = results.get(split, {}).get(name)
    if not isinstance(value, float):
      known = sorted(
        f'{s}/{n}' for s, f in results.items() for n, v in f.items() if isinstance(v, float)
      )
      raise UserError(f"keep_best='{self._name}': no such figure; there are {', '.join(known)}")
    if not math.isnan(value):
      self.values[step] = -value if self._name.startswith('-') else value

  def should_preserve(self, checkpoints, *, context):
    del context
    rated = [(self.values[c.step], c.step) for c in checkpoints if c.step in self.values]
    return [bool(rated) and c.step == max(rated)[1] for c in checkpoints]


def _describe(tree) -> dict[str, str]:
  """One line an array: 'float32[3,4] <digest>', keyed by its path."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  lines = {}
  for path, leaf in leaves:
    leaf = np.asarray(leaf)
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    digest = hashlib.blake2b(content.data, digest_size=8).hexdigest()
    shape = ','.join(map(str, leaf.shape))
    lines[jax.tree_util.keystr(path, simple=True, separator='/')] = (
      f'{leaf.dtype}[{shape}] {digest}'
    )
  return lines
