"""The outcome of an input, as a check returns it."""

import collections
import dataclasses
import re

from luab_jax.errors import UserError


@dataclasses.dataclass
class Outcome:
  """The outcome of an input; records_in is counted without the reader wherever possible."""

  refused: str = ''  # the UserError, if the whole input was refused
  records_in: int = 0
  records_out: int = 0
  skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)

  def skip(self, reason: object) -> None:
    """Counts a record that the reader skipped and reported, by the kind of its reason."""
    text = str(reason)
    assert text and '\n' not in text and len(text) < 400, f'a bad message: {text!r:.500}'
    text = re.sub(r'\(.*|: .*|[\'"].*[\'"]', '', text)
    self.skipped[' '.join(re.sub(r'-?\d\S*', '#', text).split())[:60]] += 1


def refusal(error: UserError) -> Outcome:
  """The outcome of an input that the reader refused as a whole."""
  assert '\n' not in str(error) and len(str(error)) < 1000, f'a bad message: {error!s:.1200}'
  return Outcome(refused=str(error))
