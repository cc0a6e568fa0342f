"""Which names of archive members and classes are accepted."""

import posixpath
import re

_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029]')


def normalize(name: str) -> tuple[str, str]:
  """Returns the normalized name of a member, and '' or the reason to refuse it."""
  parts = name.replace('\\', '/').split('/')
  if name.startswith(('/', '\\')) or parts[0].endswith(':'):
    return name, 'its name is absolute'
  if '..' in parts:
    return name, 'its name points outside the archive'
  if _CONTROL.search(name):  # would forge lines in logs and in TFDS's list of classes
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
  return base.startswith('._') or base == '.DS_Store' or name.startswith('__MACOSX/')


def escape(name: str) -> str:
  """Returns a name for a log: one short line without control characters."""
  return repr(name)[1:-1][:200]


def class_problem(name: str) -> str:
  """Returns '' or why this cannot be the name of a class."""
  if not name:
    return 'it belongs to no class (expected <class>.tar or <class>/<file>)'
  # TFDS stores class names one per line and strips them.
  return 'its class begins or ends with white space' if name != name.strip() else ''
