"""The scripts and styles of the pages: those in static/, read once, and nothing else."""

import pathlib
from typing import NamedTuple

_TYPES = {'.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml'}


class File(NamedTuple):
  """A file as it is sent."""

  data: bytes
  media_type: str


def read() -> dict[str, File]:
  """{name: file} of all that is served under /static/."""
  folder = pathlib.Path(__file__).with_name('static')
  return {
    path.name: File(path.read_bytes(), _TYPES[path.suffix])
    for path in sorted(folder.iterdir())
    if path.suffix in _TYPES
  }
