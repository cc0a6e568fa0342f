"""Reads Localized Narratives (JSON Lines) and finds where the mouse was while a class was named.

Annotators described an image aloud while moving the mouse over what they were describing. Only this
module knows the field names, which are documented under "File formats" on
https://google.github.io/localized-narratives/. Data: Pont-Tuset et al., "Connecting Vision and
Language with Localized Narratives" (ECCV 2020), CC BY 4.0.
"""

import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from luab_jax.byproducts.archives import member_names, reader

URL = 'https://storage.googleapis.com/localized-narratives/annotations'
FILE_NAMES = (
  *(f'coco_train_localized_narratives-{shard:05d}-of-00004.jsonl' for shard in range(4)),
  'coco_val_localized_narratives.jsonl',
)

# What annotators call COCO's classes besides their names: the other lemmas of the WordNet 3.0
# synset that LVIS assigns to each class (coco_to_synset.json), where people use them for such
# objects; for person, LVIS's own synonyms (lvis_v1, Gupta et al. 2019).
SYNONYMS = {
  'person': ('baby', 'child', 'boy', 'girl', 'man', 'woman', 'human'),
  'bicycle': ('bike',),
  'car': ('automobile',),
  'airplane': ('aeroplane', 'plane'),
  'backpack': ('rucksack', 'knapsack'),
  'handbag': ('purse',),
  'tie': ('necktie',),
  'sports ball': ('ball',),
  'tennis racket': ('tennis racquet',),
  'hot dog': ('hotdog',),
  'donut': ('doughnut',),
  'couch': ('sofa',),
  'tv': ('television',),
  'cell phone': ('cellphone', 'cellular phone', 'mobile phone'),
  'refrigerator': ('fridge',),
  'hair drier': ('hair dryer', 'blow dryer'),
}
_PLURALS = {
  'person': 'people', 'man': 'men', 'woman': 'women', 'child': 'children', 'mouse': 'mice',
  'knife': 'knives', 'sheep': 'sheep', 'skis': 'ski',
}  # fmt: skip


class Line(NamedTuple):
  """The position of a narrative in its file."""

  path: str
  number: int  # from 1
  offset: int  # in bytes
  image_id: int  # COCO's


class BadLine(NamedTuple):
  """A line that cannot be used, and why."""

  path: str
  number: int  # from 1
  reason: str

  def __str__(self) -> str:
    return f'{self.path}: line {self.number}: {self.reason}'


class Narrative(NamedTuple):
  """What one annotator said about an image and where the mouse was: U utterances, T positions.

  Times are in ms since the recording began.
  """

  annotator_id: int
  caption: str
  voice_recording: str  # path below .../localized-narratives/voice-recordings
  utterance: tuple[str, ...]  # U, each of one or a few words, in the order of the caption
  start_ms: np.ndarray  # int64 [U]
  end_ms: np.ndarray  # int64 [U]
  trace_xy: np.ndarray  # float64 [T, 2], (x right, y down), in [0, 1] or slightly outside
  trace_time_ms: np.ndarray  # int64 [T]
  trace_segment: np.ndarray  # int32 [T], a new one each time the mouse re-entered the image


# The JSON as released.
_Coordinate = Annotated[float, msgspec.Meta(ge=-1e3, le=1e3)]  # in image widths or heights
_Seconds = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Point(msgspec.Struct, gc=False):
  x: _Coordinate
  y: _Coordinate
  t: _Seconds


class _Utterance(msgspec.Struct, gc=False):
  utterance: str
  start_time: _Seconds
  end_time: _Seconds


class _Narrative(msgspec.Struct, gc=False):
  annotator_id: _Int64
  caption: str
  timed_caption: list[_Utterance]
  traces: list[list[_Point]]
  voice_recording: str = ''


class _ImageId(msgspec.Struct):
  image_id: str | int  # COCO's are numbers in strings


_decode_image_id = msgspec.json.Decoder(_ImageId).decode
_decode = msgspec.json.Decoder(_Narrative).decode
_BAD_LINE = (msgspec.MsgspecError, ValueError, RecursionError)


def read_lines(
  path: str | os.PathLike, *, progress: Callable[[int], None] | None = None
) -> Iterator[Line | BadLine]:
  """Yields the position and the image id of every line, in file order; empty lines are skipped.

  Narratives are long, so `read` loads each one only when it is needed. A line without a readable
  image id is yielded as a `BadLine`.

  Args:
    path: the file.
    progress: called with the number of bytes read since its last call.

  Raises:
    UserError: the file is missing or cannot be read.
  """
  path, offset = os.fspath(path), 0
  with reader.open_verified(path, source=f'{URL}/{os.path.basename(path)}') as file:
    for number, data in enumerate(file, 1):
      if data.strip():
        try:
          yield Line(path, number, offset, int(_decode_image_id(data).image_id))
        except _BAD_LINE as error:
          yield BadLine(path, number, member_names.escape(str(error)))
      offset += len(data)
      if progress:
        progress(len(data))


def read(line: Line) -> Narrative | BadLine:
  """Reads the narrative of a line.

  A line that lacks a field, or has a value of the wrong type or out of range (such as a coordinate
  beyond ±1,000), is returned as a `BadLine`.
  """
  with open(line.path, 'rb') as file:
    file.seek(line.offset)
    data = file.readline()
  try:
    raw = _decode(data)
  except _BAD_LINE as error:
    reason = f'image_id {line.image_id}: {member_names.escape(str(error))}'
    return BadLine(line.path, line.number, reason)
  points = [point for segment in raw.traces for point in segment]
  said = raw.timed_caption
  return Narrative(
    annotator_id=raw.annotator_id,
    caption=raw.caption,
    voice_recording=raw.voice_recording,
    utterance=tuple([part.utterance for part in said]),
    start_ms=_milliseconds([part.start_time for part in said]),
    end_ms=_milliseconds([part.end_time for part in said]),
    trace_xy=np.array([(point.x, point.y) for point in points], np.float64).reshape(-1, 2),
    trace_time_ms=_milliseconds([point.t for point in points]),
    trace_segment=np.repeat(np.arange(len(raw.traces), dtype=np.int32), list(map(len, raw.traces))),
  )


def _milliseconds(seconds: list[float]) -> np.ndarray:
  return np.round(np.array(seconds, np.float64) * 1000).astype(np.int64)


Vocabulary = dict[tuple[str, ...], str]  # {lower-case words: class}


@functools.cache
def vocabulary(class_names: tuple[str, ...]) -> Vocabulary:
  """The words that name each class: its name, its synonyms, and their plurals.

  Words that are the name of one class and a synonym of another stand for the former.
  """
  names = {_words(name): name for name in class_names}
  synonyms = {_words(other): name for name in names.values() for other in SYNONYMS.get(name, ())}
  singular = synonyms | names
  return {(*words[:-1], _plural(words[-1])): name for words, name in singular.items()} | singular


def _words(text: str) -> tuple[str, ...]:
  return tuple(re.findall(r'\w+', text.lower()))


def _plural(word: str) -> str:
  if word in _PLURALS:
    return _PLURALS[word]
  if re.search('[^aeiou]y$', word):
    return f'{word[:-1]}ies'
  return word + ('es' if re.search('(s|x|ch|sh)$', word) else 's')


def named_points(narrative: Narrative, words: Vocabulary) -> dict[str, tuple[float, float]]:
  """Where the mouse was while a class was named: class -> (x right, y down) in the image (ours).

  This is the coordinate-wise median of the positions from the start of the utterance with the
  name's first word to the end of the one with its last. Annotators circle an object or scribble
  over it, which puts the median near its centre; the few positions on the way there and back would
  shift a mean, but hardly a median. If a class is named several times, the first mention with a
  position counts: a second 'person' is often someone else, and a point between the two would be on
  neither. The longest name wins: a hot dog is not a dog. A word may also mean something else (an
  orange shirt), which only the labels of the image can tell.
  """
  spoken = [(word, i) for i, text in enumerate(narrative.utterance) for word in _words(text)]
  time, longest = narrative.trace_time_ms, max(map(len, words), default=0)
  found: dict[str, tuple[float, float]] = {}
  start = 0
  while start < len(spoken):
    for end in range(min(start + longest, len(spoken)), start, -1):
      part = spoken[start:end]
      if name := words.get(tuple([word for word, _ in part])):
        first, last = narrative.start_ms[part[0][1]], narrative.end_ms[part[-1][1]]
        here = narrative.trace_xy[(time >= first) & (time <= last)]
        if len(here) and name not in found:
          x, y = np.median(here, axis=0).tolist()
          found[name] = x, y
        break
    else:
      end = start + 1
    start = end
  return found
