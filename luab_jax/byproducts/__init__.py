"""Readers of the two releases: raw record in, typed numpy record out."""


class BadRecord(ValueError):
  """A record that cannot be trusted; the message says why. Builders name it, count it, go on."""
