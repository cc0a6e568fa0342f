"""How the server responds to a request that it refuses."""

from typing import Any


class Refusal(Exception):
  """A request is refused and changes nothing.

  Attributes:
    status: HTTP status, 4xx or 5xx.
    answer: {'error': a word for the page, 'message': one line for a person, ...}.
  """

  def __init__(self, status: int, word: str, message: str, **more: Any) -> None:
    super().__init__(message)
    self.status = status
    self.answer = {'error': word, 'message': message, **more}
