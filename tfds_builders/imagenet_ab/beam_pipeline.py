"""imagenet_ab as an Apache Beam pipeline, for builds on several machines.

  parts of the files ─ read ─ (stem, entry) ─ group ─ join, check ─┬─ examples of a split ─ TFDS
                        │                                          │
                        └─────────────── counts ───────────────────┴─ a small file ─ the summary

Class tars are parts that are read in parallel; a tar.gz of XMLs is one part, since it can only be
read from its start. The records and the summary are the same as in a build without Beam.
"""

import collections
import contextlib
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, MutableMapping

import apache_beam as beam
from apache_beam.transforms import window
from apache_beam.utils.windowed_value import WindowedValue
from etils import epath

from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from tfds_builders import content_digest
from tfds_builders.build_summary import BuildSummary
from tfds_builders.image_check import check_image
from tfds_builders.imagenet_ab import release as release_files
from tfds_builders.imagenet_ab.release import Release

# Not split names, which have no '/'. XMLs and boxes are counted before the first split.
_XMLS, _BOXES, _COUNTS = '/xmls', '/boxes', '/counts'
_USER_ERROR = re.compile(r'\bUserError: (.+?)(?: \[while running .*)?$', re.MULTILINE)
_NO_EXAMPLES = re.compile(r'number of generated examples is 0 for split (\w+)')  # TFDS's wording

# (source, position, folder, file name or stem, bytes), as exchanged by workers: a plain tuple has a
# fast coder. The position, (part, member), decides which of two duplicates comes first.
_Entry = tuple[str, tuple[int, int], str, str, bytes]


class BeamBuild:
  """One build: the transforms that produce the examples of each split, and the final counts."""

  def __init__(self, release: Release, data_dir: str | os.PathLike):
    """Prepares a pipeline.

    Args:
      release: files that every worker has to see, under the same paths.
      data_dir: folder of the build, which every worker has to see as well.
    """
    self._release = release
    self._counts_path = epath.Path(data_dir) / 'build_counts.json'
    self._outputs = None

  def splits(self) -> dict[str, beam.PTransform]:
    """Returns the transform that produces the (key, example) pairs of each split."""
    return {split: _Split(self, split) for split in self._release.images}

  def outputs(self, pipeline: beam.Pipeline) -> beam.pvalue.DoOutputsTuple:
    """Returns the examples of all splits by name; built once, since splits share the XMLs.

    Args:
      pipeline: the same one in every call.
    """
    if self._outputs is None:
      read = (
        pipeline
        | 'Parts' >> beam.Create(_parts(self._release))
        | 'Spread' >> beam.Reshuffle()
        | 'Read' >> beam.ParDo(_Read(self._release)).with_outputs(_COUNTS, main=_XMLS)
      )
      self._outputs = (
        read[_XMLS]
        | 'ByStem' >> beam.GroupByKey()
        | 'Join' >> beam.ParDo(_Join(self._release)).with_outputs()
      )
      _ = (
        (read[_COUNTS], self._outputs[_COUNTS])
        | 'AllCounts' >> beam.Flatten()
        | 'SumCounts' >> beam.CombinePerKey(_merge)
        | 'ListCounts' >> beam.combiners.ToList()
        | 'WriteCounts' >> beam.Map(_write_counts, path=os.fspath(self._counts_path))
      )
    return self._outputs

  def finish(self, summary: BuildSummary, digests: MutableMapping[str, str]) -> None:
    """Adds the counts of all workers to a summary, once the pipeline is done.

    Args:
      summary: of the build.
      digests: gets {split: digest}, see content_digest.py.

    Raises:
      UserError: too much of the input is bad.
    """
    counts = json.loads(self._counts_path.read_text())
    self._counts_path.unlink()
    for source in (_XMLS, *self._release.images):
      if source in counts:
        summary.merge(counts[source])
      if source != _XMLS:
        summary.check()  # after each split, as without Beam
        digests[source] = content_digest.to_text(counts.get(source, {}).get('content', 0))


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
  """Raises the UserErrors of workers as such.

  A runner raises another exception, whose text has the worker's traceback and the name of a step.
  """
  try:
    yield
  except Exception as error:
    text = f'{type(error).__name__}: {error}'
    if match := _USER_ERROR.search(text):
      raise UserError(match[1]) from error
    if match := _NO_EXAMPLES.search(text):
      raise UserError(
        f'no image of the split {match[1]} can be used: expected <class>.tar or '
        '<class>/<image> in it; what was left out is named in the log above'
      ) from error
    raise


class _Split(beam.PTransform):
  """Produces the examples of one split."""

  def __init__(self, build: BeamBuild, split: str):
    super().__init__()
    self._build = build
    self._split = split

  def expand(self, begin):
    return self._build.outputs(begin.pipeline)[self._split]


class _CountingDoFn(beam.DoFn):
  """Emits the counts of each source at the end of each bundle."""

  def __init__(self, release: Release):
    self._release = release

  def start_bundle(self):
    self._summaries = collections.defaultdict(_new_summary)

  def finish_bundle(self):
    for source, summary in self._summaries.items():
      counts = WindowedValue(
        (source, summary.state()), window.GlobalWindow().max_timestamp(), [window.GlobalWindow()]
      )
      yield beam.pvalue.TaggedOutput(_COUNTS, counts)


class _Read(_CountingDoFn):
  """Reads a part of the files as (stem, entry) pairs."""

  def process(self, part: tuple[int, str, int | None]):
    number, source, class_part = part
    if source in (_XMLS, _BOXES):
      summary = self._summaries[_XMLS]
      read = self._release.iter_xmls if source == _XMLS else self._release.iter_boxes
      for member, (folder, stem, data) in enumerate(read(summary)):
        yield stem, (source, (number, member), folder, stem, data)
      return
    images = self._release.iter_images(source, self._summaries[source], part=class_part)
    for member, (label, file_name, data) in enumerate(images):
      # Keyed by the stem alone, since boxes have no class.
      stem = posixpath.splitext(file_name)[0]
      yield stem, (source, (number, member), label, file_name, data)


class _Join(_CountingDoFn):
  """Joins everything with the same stem into examples."""

  def process(self, group: tuple[str, Iterable[_Entry]]):
    stem, entries = group
    xmls, images = self._deduplicate(stem, entries)
    unused = {folder for source, folder in xmls if source == _XMLS}
    for (split, label, file_name), data in images.items():
      unused.discard(label)
      joined = release_files.Joined(
        label,
        file_name,
        data,
        xmls.get((_XMLS, label)),
        None if split == 'train' else xmls.get((_BOXES, release_files.BOX_FOLDER)),
      )
      example = self._release.example(
        split, joined, check_image(data, self._release.reduction), self._summaries[split]
      )
      if example:
        key = f'{label}/{file_name}'
        self._summaries[split].add_content(content_digest.digest(key, example))
        yield beam.pvalue.TaggedOutput(split, (key, example))
    self._summaries[_XMLS].note('XMLs without an image', len(unused))

  def _deduplicate(self, stem, entries) -> tuple[dict, dict]:
    """Returns {(source, folder): XML} and {(split, class, file name): image}, the first of each."""
    xmls, images = {}, {}
    paths = {_XMLS: self._release.xmls, _BOXES: self._release.boxes}
    for source, _, folder, name, data in sorted(entries, key=lambda entry: entry[1]):
      if source in paths:
        if xmls.setdefault((source, folder), data) is not data:
          release_files.skip_duplicate_xml(paths[source], folder, stem, self._summaries[_XMLS])
        continue
      self._summaries[source].add('images read')
      if images.setdefault((source, folder, name), data) is not data:
        self._release.skip_duplicate_image(source, folder, name, self._summaries[source])
    return xmls, images


def _parts(release: Release) -> list[tuple[int, str, int | None]]:
  """Returns (number, source, part of it or None for all of it) for everything to read."""
  parts = [(_XMLS, None)] + ([(_BOXES, None)] if release.boxes else [])
  for split, path in release.images.items():
    count = 0
    if release.has_class_parts(split):
      count = reader.count_class_parts(path, source=release.image_source)
    parts += [(split, part) for part in range(count) or [None]]
  return [(number, *part) for number, part in enumerate(parts)]


def _new_summary() -> BuildSummary:
  return BuildSummary('a part of a build', release_files.COUNTS)


def _merge(states: Iterable[dict]) -> dict:
  """Returns the sum of `BuildSummary.state()`s."""
  summary = _new_summary()
  for state in states:
    summary.merge(state)
  return summary.state()


def _write_counts(counts: list[tuple[str, dict]], path: str) -> None:
  epath.Path(path).write_text(json.dumps(dict(counts)))
