"""What a build reports: its progress, bad input by name, and a summary."""

import collections
import contextlib
import os
import pathlib
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from absl import logging
from tqdm import tqdm

from luab_jax.errors import UserError
from tfds_builders import content_digest

MAX_BAD_SHARE_VARIABLE = 'LUAB_MAX_BAD_SHARE'
DEFAULT_MAX_BAD_SHARE = 0.01


class BuildStopped(UserError, SystemExit):
  """A UserError that the `tfds build` command line prints as one line.

  That command prints the traceback of every exception but SystemExit, whose text alone goes to
  stderr (exit status 1). For callers of the Python API it is the UserError it wraps.
  """

  def __init__(self, message: str):
    super().__init__(message)
    self.code = message  # what the interpreter prints for a SystemExit


@contextlib.contextmanager
def one_line_errors(data_dir: str | os.PathLike) -> Iterator[None]:
  """Raises a UserError of the block, or a failure to write to `data_dir`, as BuildStopped."""
  try:
    yield
  except UserError as error:
    raise BuildStopped(str(error)) from error
  except Exception as error:
    if reason := _write_problem(error):
      raise BuildStopped(f'cannot write to --data_dir={data_dir}: {reason}') from error
    raise


def _write_problem(error: BaseException | None) -> str:
  """Returns the message of the OS, TensorFlow or SQLite about a full or read-only disk, or ''.

  TFDS raises its own exceptions from theirs. Bad input has already raised a UserError.
  """
  import tensorflow as tf  # slow to import, but already imported by now

  kinds = (
    OSError,
    sqlite3.OperationalError,
    tf.errors.ResourceExhaustedError,
    tf.errors.FailedPreconditionError,
    tf.errors.PermissionDeniedError,
  )
  while error and not isinstance(error, kinds):
    error = error.__cause__ or error.__context__
  return ' '.join(str(error).split()) if error else ''


def check_room(folder: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
  """Raises UserError if a disk has less free space than the raw files of a data set take.

  Args:
    folder: where the data set is built; a bucket is not checked.
    inputs: the archives, or folders of class folders, whose content it will hold.
  """
  needed = sum(map(_input_bytes, inputs))
  if os.path.isdir(folder) and needed > (free := shutil.disk_usage(folder).free):
    raise UserError(
      f'{os.fspath(folder)} has {free / 1e6:,.0f} MB free, and the data set needs about '
      f'{needed / 1e6:,.0f} MB: free some space, or choose another --data_dir'
    )


def wants_beam(download_config) -> bool:
  """Whether a tfds.download.DownloadConfig (or None) asks for a Beam pipeline."""
  return bool(download_config and (download_config.beam_options or download_config.beam_runner))


def warn_about_beam(name: str, download_config) -> None:
  """Warns that Beam's options have no effect on a builder that does not use Beam."""
  if wants_beam(download_config):
    logging.warning(
      '%s is not built with Beam: its options (such as --beam_pipeline_options) have no effect',
      name,
    )


def max_bad_share() -> float:
  """Returns the share of bad input that a build accepts, in [0, 1].

  It is set by an environment variable because `tfds build` has no options for builders.

  Raises:
    UserError: the variable is not a number from 0 to 1.
  """
  text = os.environ.get(MAX_BAD_SHARE_VARIABLE, '')
  try:
    share = float(text) if text else DEFAULT_MAX_BAD_SHARE
  except ValueError:
    share = -1.0
  if not 0 <= share <= 1:
    raise UserError(
      f'{MAX_BAD_SHARE_VARIABLE}={text}: set a number from 0 to 1, such as {DEFAULT_MAX_BAD_SHARE}'
    )
  return share


class BuildSummary:
  """Counts what a build reads and writes, and what it leaves out and why."""

  def __init__(self, title: str, counts: Sequence[str]):
    """Starts all counts at zero.

    Args:
      title: what is built, for instance 'imagenet_ab/local'.
      counts: names of the counts in the order they are printed; the first counts the images read
        and is what the share of bad input refers to.
    """
    self._title = title
    self._counts = dict.fromkeys(counts, 0)
    self._skipped = collections.Counter()
    self._noted = collections.Counter()
    self._content = 0
    self._max_bad_share = max_bad_share()

  def add(self, count: str, amount: int = 1) -> None:
    """Adds to one of the named counts."""
    self._counts[count] += int(amount)

  def skip(self, reason: str, where: str, detail: object = '') -> None:
    """Counts one bad input and names it in the log.

    Args:
      reason: the kind of problem, such as 'corrupt XML'.
      where: file and member.
      detail: what is wrong with this one.
    """
    self._skipped[reason] += 1
    logging.warning('Skipped %s: %s: %s', reason, where, detail)

  def note(self, what: str, amount: int = 1) -> None:
    """Counts something worth knowing that is not bad input."""
    self._noted[what] += int(amount)

  def add_content(self, digest: int) -> None:
    """Adds the digest of an example, see content_digest.py; only used by Beam's workers."""
    self._content = content_digest.add(self._content, digest)

  def state(self) -> dict[str, Any]:
    """Returns all counts as plain data, for `merge`."""
    return {
      'counts': dict(self._counts),
      'skipped': dict(self._skipped),
      'noted': dict(self._noted),
      'content': self._content,
    }

  def merge(self, state: dict[str, Any]) -> None:
    """Adds the counts of another summary's `state`."""
    for name, count in state['counts'].items():
      self._counts[name] += count
    self._skipped.update(state['skipped'])
    self._noted.update(state['noted'])
    self.add_content(state['content'])

  def check(self) -> None:
    """Raises a UserError if more than the accepted fraction of the input so far is bad."""
    read = next(iter(self._counts.values()))
    bad = self._skipped.total()
    if bad > self._max_bad_share * max(read, 1):
      reasons = ', '.join(f'{n} × {reason}' for reason, n in self._skipped.most_common())
      raise UserError(
        f'{self._title}: {bad} of {read} are bad ({reasons}; each is named in the log above), '
        f'more than the accepted fraction of {self._max_bad_share:g}: fix the input, or accept '
        f'more with {MAX_BAD_SHARE_VARIABLE}=<share>'
      )

  def __str__(self) -> str:
    rows = [(name, f'{count:,}') for name, count in self._counts.items()]
    rows += [(f'skipped: {reason}', f'{n:,}') for reason, n in sorted(self._skipped.items())]
    if not self._skipped:
      rows.append(('skipped', '0'))
    rows += [(what, f'{n:,}') for what, n in sorted(self._noted.items()) if n]
    width = max(len(name) for name, _ in rows)
    lines = [f'  {name:<{width}}  {value:>12}' for name, value in rows]
    return '\n'.join([f'Summary of {self._title}', *lines])


@contextlib.contextmanager
def progress_bar(path: str | os.PathLike, description: str) -> Iterator[Callable[[int], None]]:
  """Shows how much of a file or folder has been read, the rate and the time left.

  Hidden where stderr is not a terminal.

  Args:
    path: the file or folder of class folders that is read.
    description: what is done with it.

  Yields:
    A function to call with the number of bytes read since the last call.
  """
  with tqdm(
    desc=description, total=_input_bytes(path), unit='B', unit_scale=True, disable=None, leave=False
  ) as bar:
    yield bar.update


def _input_bytes(path: str | os.PathLike) -> int:
  """Returns the size in bytes of a file, or of all files in the subfolders of a folder."""
  path = pathlib.Path(path)
  if path.is_dir():
    return sum(file.stat().st_size for file in path.glob('*/*') if file.is_file())
  return path.stat().st_size
