"""Readers and writers of the records of the two releases, as typed numpy columns."""


class BadRecord(ValueError):
  """A record that cannot be used; the message says why. Builders report it, count it, go on."""
