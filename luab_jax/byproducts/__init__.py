"""Readers and writers of annotation records, as typed numpy columns."""


class BadRecord(ValueError):
  """A record that cannot be used; the message says why. Builders log it, count it and go on."""
