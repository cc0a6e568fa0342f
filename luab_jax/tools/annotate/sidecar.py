"""Writes answers.jsonl.gz: everything recorded, including what the releases have no place for.

The first line is a `Head`, every other one a `Line`: an answer, accepted or not. Nothing in it
identifies a person: no platform id, no address, no browser.
"""

import pathlib
from collections.abc import Mapping

import msgspec

from luab_jax.byproducts.archives import writer
from luab_jax.tools.annotate.answers import Answer, Answers
from luab_jax.tools.annotate.grid_release import Written
from luab_jax.tools.annotate.judging import Judgement
from luab_jax.tools.annotate.quality import Features
from luab_jax.tools.annotate.study import Study
from luab_jax.tools.annotate.visits import Window

NAME = 'answers.jsonl.gz'


class Head(msgspec.Struct):
  """What the numbers in the events mean, and how they were recorded."""

  version: int
  task: str
  classes: list[str]  # events name them by index
  groups: list[str]  # icons: the pages of icons, likewise
  track: str
  pointer: str
  blur: str


class ShownImage(msgspec.Struct):
  """An image on a page."""

  slot: int
  file: str  # below the folder of images
  sha256: str
  width: int  # upright, in px
  height: int
  gold: bool | None  # whether it is known to hold the class
  seen: bool  # it was shown and not reported as broken
  release: str | None  # path of the image in the release; None: it is not there
  used: bool  # whether the release holds this answer about it


class Line(msgspec.Struct):
  """An answer. Times are ms since 1970; server: by the server's clock, others by the browser's."""

  lease: int
  page: int  # position
  label: str  # class that was asked for; '' for icons
  worker_id: str
  hit_id: str
  assignment_id: str
  page_idx: int  # among the pages of the session, from 0
  state: str  # 'accepted', 'rejected' or 'unfinished'
  opened: float
  ended: float
  server_submitted: int | None
  windows: list[Window]  # [time, width, height, device pixels per CSS px], sizes in CSS px
  sources: dict[str, int]  # how often each device selected or placed something
  features: Features  # with visible and active time
  flags: list[str]
  images: list[ShownImage]
  batches: list['_Batch']


class _Batch(msgspec.Struct):
  seq: int
  origin: float  # times of events count from here
  sent: float  # since origin
  server_ms: int
  events: msgspec.Raw  # as in events.py


def write(
  out: pathlib.Path,
  study: Study,
  study_answers: Answers,
  judged: Mapping[int, Judgement],
  written: Written,
) -> None:
  """Writes the file into an existing folder; the same study gives the same bytes."""
  encode = msgspec.json.Encoder().encode
  head = Head(
    study.version,
    study.task,
    [entry.name for entry in study.classes],
    study.groups,
    study.track,
    study.pointer,
    study.blur,
  )
  with writer.gzip_file(out / NAME) as file:
    file.write(encode(head) + b'\n')
    for answer in study_answers.answers:
      line = _line(study_answers, answer, judged[answer.lease], written)
      file.write(encode(line) + b'\n')


def _line(study_answers: Answers, answer: Answer, judgement: Judgement, written: Written) -> Line:
  page, visit, features = study_answers.pages[answer.page], judgement.visit, judgement.features
  shown = []
  for slot, number in page.images.items():
    image = study_answers.images[number]
    shown.append(
      ShownImage(
        slot,
        image.path,
        image.sha256,
        image.width,
        image.height,
        gold=page.gold.get(slot),
        seen=slot not in judgement.unseen,
        release=written.names.get(number),
        used=(answer.lease, slot) in written.used,
      )
    )
  return Line(
    lease=answer.lease,
    page=page.position,
    label=page.label,
    worker_id=answer.worker,
    hit_id=answer.hit_id,
    assignment_id=answer.assignment_id,
    page_idx=answer.page_idx,
    state=answer.state,
    opened=visit.opened,
    ended=visit.ended,
    server_submitted=answer.submitted,
    windows=visit.windows,
    sources=visit.sources,
    features=features,
    flags=judgement.flags,
    images=shown,
    batches=[
      _Batch(batch.seq, batch.origin, batch.sent, server_ms, batch.events)
      for server_ms, batch in study_answers.stored_batches(answer)
    ],
  )
