"""The one exception whose message is meant for the user."""


class UserError(Exception):
  """A mistake the user can fix: one line that names the file or setting and the remedy.

  `run.py` and the other commands print it without a traceback and exit with status 2.
  """
