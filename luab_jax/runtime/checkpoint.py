"""Orbax checkpoints of any tree of arrays with JSON metadata; independent of the models.

The tree is saved unreplicated, so that the number of devices and hosts may change between runs. The
metadata hold shape, dtype and digest of every array: Orbax has no end-to-end checksum and restores
an array with a flipped byte without complaint.
"""

import contextlib
import hashlib
import math
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tqdm
from orbax.checkpoint import checkpoint_managers

from luab_jax.errors import UserError
from luab_jax.runtime import hosts

Tree = Any  # a pytree of arrays
Metadata = dict[str, Any]
Results = dict[str, dict[str, Any]]  # {split: metrics}

_ROOM_FOR_METADATA = 1 << 20  # bytes


class Checkpoints:
  """The checkpoints of one run: saved in the background; old ones are deleted."""

  def __init__(
    self,
    directory: pathlib.Path,
    *,
    keep: int,
    save_every: int = 1,
    keep_every: int = 0,
    best: str = '',
    results: dict[int, Results] | None = None,
    read_only: bool = False,
  ):
    """Opens the folder, which need not exist yet.

    Args:
      directory: holds a folder for each step.
      keep: how many of the newest checkpoints to keep, at least one.
      save_every: steps between two saves, see `is_due`.
      keep_every: also keep checkpoints at multiples of this many steps; 0: none.
      best: '<split>/<metric>', for example 'validation/top1': also keep the checkpoint with the
        highest value, or with a leading '-' ('-heldout_clicks/click_error') the lowest. '': none.
      results: {step: {split: metrics}} of earlier evaluations.
      read_only: change nothing, not even damaged checkpoints: a run may be in progress.

    Raises:
      UserError: the folder cannot be written.
    """
    self.directory = pathlib.Path(directory).resolve()
    self._read_only = read_only
    self._save_every, self._best = save_every, _Best(best)
    for step, metrics in (results or {}).items():
      with contextlib.suppress(UserError):  # of a config with other splits
        self._best.rate(step, metrics)
    if read_only:
      self._options = ocp.CheckpointManagerOptions(
        read_only=True, create=False, save_interval_steps=0
      )
    else:
      self._options = ocp.CheckpointManagerOptions(
        preservation_policy=_preservation(keep, keep_every, self._best),
        save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
        cleanup_tmp_directories=True,
      )
    self._open()

  def _open(self) -> None:
    try:
      self._manager = ocp.CheckpointManager(
        self.directory,
        options=self._options,
        item_handlers={
          'state': ocp.StandardCheckpointHandler(),
          'metadata': ocp.JsonCheckpointHandler(),
        },
      )
    except OSError as error:  # it cannot create the folder, or remove an unfinished save
      raise UserError(f'cannot write to {self.directory}: {error}') from error

  def latest_step(self) -> int | None:
    """The newest step that was saved completely, or None."""
    return self._manager.latest_step()

  def rate(self, step: int, results: Results) -> None:
    """Records {split: metrics} of a step; UserError if they lack the metric that `best` names."""
    self._best.rate(step, results)

  def is_due(self, step: int) -> bool:
    """Whether to save now: at multiples of `save_every`, and at steps that may be the best."""
    return step % self._save_every == 0 or step in self._best.values

  def save(self, step: int, tree: Tree, metadata: Metadata) -> None:
    """Starts saving a tree of numpy arrays and JSON-serialisable metadata as `step`.

    Returns once the arrays are safe from later changes; the files appear atomically. Every process
    of a run calls it, process 0 writes. A step that was already saved is left alone.

    Raises:
      UserError: this save or the previous one failed, for example because the disk is full.
    """
    if step == self.latest_step():
      return
    tree = jax.tree.map(np.asarray, tree)  # Orbax refuses numpy's scalars
    try:
      self._check_free_space(tree)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(tree),
          metadata=ocp.args.JsonSave({'arrays': _describe(tree), **metadata}),
        ),
      )
    except Exception as error:  # Orbax re-raises whatever happened in its threads
      raise self._failed(error) from error

  def _check_free_space(self, tree: Tree) -> None:
    """Raises OSError if the folder is gone or the disk full: Orbax would log pages or hang."""
    if not self.directory.is_dir():  # not recreated: the run would lose its earlier checkpoints
      raise FileNotFoundError('the folder is gone')
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _ROOM_FOR_METADATA
    free = shutil.disk_usage(self.directory).free
    if free < needed:
      raise OSError(f'{needed / 2**20:.1f} MiB are needed, but {free / 2**20:.1f} MiB are free')

  def _failed(self, error: Exception) -> Exception:
    if jax.process_count() > 1 and hosts.is_process_loss(error):
      return error
    return UserError(
      f'a checkpoint could not be saved in {self.directory} ({_one_line(error)}); earlier ones are '
      'intact: free some disk space or fix the folder, and start the same command again'
    )

  def restore(self, template: Tree = None) -> tuple[Tree, Metadata] | None:
    """Reads the newest intact checkpoint; unless read-only, moves newer damaged ones to `damaged/`.

    Args:
      template: tree of arrays, or of `jax.ShapeDtypeStruct`, with the structure, shapes and dtypes
        that were saved; None: whatever was saved, as nested dicts and lists.

    Returns:
      (tree of numpy arrays, metadata), or None if nothing has been saved yet.

    Raises:
      UserError: the saved tree has another structure or other shapes, or every checkpoint is
        damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      try:
        return self._restore_step(step, template)
      except UserError:
        raise
      except Exception as error:  # on a damaged folder Orbax may raise anything
        self._set_aside(step, _one_line(error))
    if steps:
      moved = '' if self._read_only else ' and were moved into its damaged/ folder'
      raise UserError(
        f'all {len(steps)} checkpoints in {self.directory} are damaged{moved}: restore an intact '
        'copy, or start again in a new --workdir'
      )
    return None

  def _restore_step(self, step: int, template: Tree) -> tuple[Tree, Metadata]:
    """Raises UserError for another structure, and anything for a damaged checkpoint."""
    args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
    metadata = self._manager.restore(step, args=args)['metadata']
    saved = dict(metadata['arrays'])
    if template is not None:
      self._check_structure(step, saved, template)
    args = ocp.args.Composite(state=ocp.args.StandardRestore())
    state = self._manager.restore(step, args=args)['state']
    changed = [name for name, text in _describe(state).items() if saved[name] != text]
    if changed:
      raise ValueError(f'{len(changed)} arrays changed on disk, the first is {changed[0]}')
    if template is not None:  # keeps the template's empty subtrees, which Orbax would compare too
      arrays = _by_path(state)
      leaves = [np.asarray(arrays[name]) for name in _by_path(template)]
      state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return state, metadata

  def _check_structure(self, step: int, saved: dict[str, str], template: Tree) -> None:
    wanted = {name: _type(leaf) for name, leaf in _by_path(template).items()}
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

  def _set_aside(self, step: int, why: str) -> None:
    """Moves a damaged checkpoint away: Orbax does not save a step whose folder exists."""
    moved = '' if self._read_only else ', moved to damaged/'
    if jax.process_index() == 0:
      tqdm.tqdm.write(f'checkpoint {step} is skipped{moved}: {why}', file=sys.stderr)
    if self._read_only:
      return
    self._manager.close()
    if jax.process_index() == 0:
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

  def close(self) -> None:
    """Waits for saves in progress; raises UserError if one failed."""
    try:
      self._manager.wait_until_finished()
      self._manager.close()
    except Exception as error:
      raise self._failed(error) from error


def _one_line(error: Exception) -> str:
  return ' '.join(f'{type(error).__name__}: {error}'.split())[:300]


def _preservation(
  keep: int, keep_every: int, best: '_Best'
) -> checkpoint_managers.PreservationPolicy:
  """Which checkpoints to keep: always the newest, unlike Orbax's `max_to_keep` and `best_fn`."""
  policies: list[Any] = [checkpoint_managers.LatestN(max(keep, 1)), best]
  if keep_every:
    policies.append(checkpoint_managers.EveryNSteps(keep_every))
  return checkpoint_managers.AnyPreservationPolicy(policies)


class _Best(checkpoint_managers.PreservationPolicy):
  """Keeps the checkpoint with the best metric, the newest of several with the same value.

  Orbax's own `BestN` only knows metrics passed to `save` since the last start, but an evaluation
  may come after its checkpoint.
  """

  def __init__(self, name: str):
    """`name`: see `best` of `Checkpoints`."""
    self._name = name
    self.values: dict[int, float] = {}

  def rate(self, step: int, results: Results) -> None:
    if not self._name:
      return
    split, _, name = self._name.removeprefix('-').rpartition('/')
    value = results.get(split, {}).get(name)
    if not isinstance(value, float):
      known = sorted(
        f'{s}/{n}' for s, m in results.items() for n, v in m.items() if isinstance(v, float)
      )
      raise UserError(f"keep_best='{self._name}': no such metric; there are {', '.join(known)}")
    if not math.isnan(value):
      self.values[step] = -value if self._name.startswith('-') else value

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    del context
    rated = [(self.values[c.step], c.step) for c in checkpoints if c.step in self.values]
    return [bool(rated) and c.step == max(rated)[1] for c in checkpoints]


def _by_path(tree: Tree) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(p, simple=True, separator='/'): leaf for p, leaf in leaves}


def _type(leaf: Any) -> str:
  return f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'


def _describe(tree: Tree) -> dict[str, str]:
  """{path of an array: 'float32[3,4] <digest>'}."""
  lines = {}
  for path, leaf in _by_path(tree).items():
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    digest = hashlib.blake2b(content.data, digest_size=8).hexdigest()
    lines[path] = f'{_type(leaf)} {digest}'
  return lines
