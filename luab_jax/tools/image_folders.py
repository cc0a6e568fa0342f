"""Lists the files of a user's folders."""

import pathlib
from collections.abc import Callable, Iterator


def iter_files(
  folder: pathlib.Path,
  skipped: Callable[[pathlib.Path, str], None],
  without: pathlib.Path | None = None,
  parents: frozenset[pathlib.Path] = frozenset(),
) -> Iterator[pathlib.Path]:
  """Yields all files below a folder in sorted order; links to folders are followed.

  Args:
    folder: where to start.
    skipped: called with (folder, reason) for a folder that is unreadable, or a link to one of its
      own parents.
    without: a folder to leave out if it lies below `folder`.
    parents: resolved paths of the parents, to detect cycles of links.
  """
  real = folder.resolve()
  if parents and without and real == without.resolve():
    return
  if real in parents:
    skipped(folder, 'a link to one of its own parents')
    return
  try:
    paths = sorted(folder.iterdir())
  except OSError as error:
    skipped(folder, str(error.strerror))
    return
  for path in paths:
    if path.is_dir():
      yield from iter_files(path, skipped, without, parents | {real})
    else:
      yield path
