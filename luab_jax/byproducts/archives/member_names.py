"""Which members of archives and folders are accepted, by their names and sizes."""

import posixpath
import re

_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


def checked(name: str) -> tuple[str, str]:
  """Returns the normalised name of a member, and '' or the reason to refuse it."""
  parts = name.replace('\\', '/').split('/')
  if name.startswith(('/', '\\')) or parts[0].endswith(':'):
    return name, 'its name is absolute'
  if '..' in parts:
    return name, 'its name points outside the archive'
  if _CONTROL.search(name):  # they would forge lines in logs and in TFDS's list of classes
    return name, 'its name has control characters'
  try:
    name.encode('utf-8')
  except UnicodeEncodeError:
    return name, 'its name is not UTF-8'
  normal = posixpath.normpath(name)
  return normal, 'it has no name' if normal == '.' else ''


def is_companion(name: str) -> bool:
  """Whether it is one of the files that macOS adds to archives."""
  base = posixpath.basename(name)
  return base.startswith('._') or base == '.DS_Store'


def too_big(size: int, max_bytes: int) -> str:
  """Returns '' or why a member of this size is refused."""
  return f'it has {size} bytes, more than {max_bytes}' if size > max_bytes else ''


def shown(name: str) -> str:
  """Returns a name for a log: short, in one line, without what a terminal would obey."""
  return repr(name)[1:-1][:200]


def class_problem(name: str) -> str:
  """Returns '' or why this cannot be the name of a class."""
  if not name:
    return 'it belongs to no class (expected <class>.tar or <class>/<file>)'
  # TFDS keeps class names as lines of a file, and strips them.
  return 'its class begins or ends with white space' if name != name.strip() else ''
