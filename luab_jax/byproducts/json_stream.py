"""Reads the items of a huge JSON list one by one, over a window of text that slides along the file.

The standard library decodes a whole file (gigabytes of objects for COCO's) or nothing; its
`raw_decode` decodes one value inside a text, which is all that is needed here.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from luab_jax.errors import UserError

# COCO's items have about 5 kB. What has not ended after so many characters lost its bracket.
MAX_ITEM_CHARS = 8 << 20

# An undecodable item may take a tenth of a second, where it is crafted for that.
MAX_BROKEN = 1000

_BETWEEN = ' \t\n\r,'
_SPACE = re.compile(r'[ \t\n\r]*')


class Broken(NamedTuple):
  """Stands in a list where an item could not be decoded."""

  text: str  # what was skipped
  reason: str


class JsonStream:
  """One forward pass over a JSON file in constant memory.

  Commas are skipped, not counted. A byte that is no UTF-8 becomes U+FFFD.

  Args:
    file: has `read(bytes)`.
    path: name of the file for messages.
    source: where to get the file, for messages.
    item_start: matches where an item of the list begins and nothing inside an item. With it, an
      item that cannot be decoded becomes a `Broken` and reading goes on at the next item; without
      it, that is a UserError.
    decode: a quicker decoder of one item, given its text; None: left to the standard library. It
      is asked about what lies between one `item_start` and the next.
    chunk_bytes: how much is read at a time; does not change what is yielded.

  Raises (all methods):
    UserError: the file is truncated, damaged beyond what `item_start` can mend, or has more than
      MAX_BROKEN items that cannot be decoded.
  """

  def __init__(
    self,
    file: IO[bytes],
    path: str,
    source: str,
    *,
    item_start: re.Pattern | None = None,
    decode: Callable[[str], Any] = lambda text: None,
    chunk_bytes: int = 1 << 20,
  ):
    self._file = file
    self._path = path
    self._source = source
    self._item_start = item_start
    self._decode = decode
    self._chunk_bytes = chunk_bytes
    self._utf8 = codecs.getincrementaldecoder('utf-8-sig')(errors='replace')
    self._raw_decode = json.JSONDecoder().raw_decode
    self._text = ''  # the window
    self._position = 0  # how far the window has been used
    self._at_end = False  # nothing is left in the file behind the window
    self._broken = 0  # how many items could not be decoded

  def list_items(self) -> Iterator[Any]:
    """Yields the items of the list that begins here, `Broken` for those that cannot be decoded."""
    self._expect('[')
    while (char := self._next_char()) != ']':
      if char == ',':
        self._position += 1
      else:
        item = self._quick_item()
        yield self._next_value() if item is None else item
    self._position += 1

  def member_items(self) -> Iterator[tuple[str, Any]]:
    """Yields (key, item) for each item of each list that is a member of the object here."""
    self._expect('{')
    while (char := self._next_char()) != '}':
      if char == ',':
        self._position += 1
        continue
      key = self._next_value()
      if not isinstance(key, str):
        raise self._error('a key that is no text')
      self._expect(':')
      if self._next_char() == '[':
        for item in self.list_items():
          yield key, item
      else:
        self._next_value()
    self._position += 1

  def end(self):
    """Checks that nothing but white space follows."""
    while not self._text[self._position :].strip() and not self._at_end:
      self._position = len(self._text)
      self._fill()
    if self._text[self._position :].strip():
      raise self._error('there is more text behind its end')

  def _fill(self):
    rest = self._text[self._position :]
    # At least doubling keeps the work linear when an item is longer than a chunk.
    data = self._file.read(max(self._chunk_bytes, len(rest)))
    self._text = rest + self._utf8.decode(data, final=not data)
    self._at_end = not data
    self._position = 0

  def _next_char(self) -> str:
    while True:
      self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
      if self._position < len(self._text):
        return self._text[self._position]
      if self._at_end:
        raise self._error('truncated')
      self._fill()

  def _expect(self, char: str):
    found = self._next_char()
    if found != char:
      raise self._error(f'{found!r} where {char!r} is expected')
    self._position += 1

  def _quick_item(self) -> Any:
    """Returns the item here if all up to the next one is an item for `decode`, else None."""
    if not self._item_start or not self._item_start.match(self._text, self._position):
      return None
    end = self._item_behind(self._position + 1)
    if end is None or end - self._position > MAX_ITEM_CHARS:
      return None
    item = self._decode(self._text[self._position : end].rstrip(_BETWEEN))
    if item is not None:
      self._position = end
    return item

  def _next_value(self) -> Any:
    while True:
      try:
        value, end = self._raw_decode(self._text, self._position)
      except (ValueError, RecursionError) as error:
        reason = getattr(error, 'msg', None) or str(error)
        failed_at = getattr(error, 'pos', self._position)
      else:
        if end - self._position > MAX_ITEM_CHARS:
          return self._skip_unended()
        # A number that the window cuts in two decodes too, up to 2 characters short of the edge:
        # 1|2, 1|.5, 1|e+5.
        if end + 2 < len(self._text) or self._at_end:
          self._position = end
          return value
        reason, failed_at = 'cut off', end
      # An item that begins behind the failure proves that this one is broken, not just incomplete.
      if self._item_behind(max(failed_at, self._position + 1)) is not None:
        return self._skip(reason)
      if len(self._text) - self._position > MAX_ITEM_CHARS:
        return self._skip_unended()
      if self._at_end:
        return self._skip_last(reason, failed_at)
      self._fill()

  def _item_behind(self, start: int) -> int | None:
    found = self._item_start and self._item_start.search(self._text, start)
    return found.start() if found else None

  def _skip(self, reason: str, end: int | None = None) -> Broken:
    """Gives up the item here; goes on at `end`, or at the first item behind its first character.

    That may lie before the failure: a lost quote or bracket makes an item swallow the next one.
    """
    self._broken += 1
    if self._broken > MAX_BROKEN:
      raise self._error(f'more than {MAX_BROKEN} items cannot be decoded, the last: {reason}')
    start = self._position
    self._position = self._item_behind(start + 1) if end is None else end  # type: ignore[assignment]
    return Broken(self._text[start : self._position], reason)

  def _skip_unended(self) -> Broken:
    if self._item_behind(self._position + 1) is None:
      raise self._error(f'an item does not end within {MAX_ITEM_CHARS} characters')
    return self._skip('its closing bracket is missing')

  def _skip_last(self, reason: str, failed_at: int) -> Broken:
    """At the end of the file: a lost bracket, a broken last item, or a truncated file."""
    if self._item_behind(self._position + 1) is not None:
      return self._skip_unended()
    text = self._text.rstrip()
    cut = failed_at >= len(text) or reason.startswith('Unterminated string')
    if cut or not text.endswith(']'):
      raise self._error('truncated')
    if not self._item_start:
      raise self._error(reason)
    return self._skip(reason, len(text) - 1)

  def _error(self, problem: str) -> UserError:
    return UserError(
      f'{self._path} is not the JSON it should be ({problem}): get it again from {self._source}'
    )
