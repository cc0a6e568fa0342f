"""Decodes images ahead of the builder that asks for them, on all cores, in their order."""

import collections
import concurrent.futures
import os
from collections.abc import Iterable, Iterator

from luab_jax.image_files import BadImage, image_size

# Threads, since TensorFlow decodes without Python's lock. What else a build does for an image takes
# about a quarter of a decode and is the work of one core, so more would be idle.
MAX_WORKERS = 8

Size = tuple[int, int]  # (height, width) in px


def with_sizes(
    members: Iterable[tuple[str, ...]], *, workers: int | None = None
) -> Iterator[tuple[tuple, Size | BadImage]]:
  """Yields (member, its size or what is wrong with it) for each image, in the order given.

  At most two images a worker are held beyond the one that is yielded.

  Args:
    members: tuples that end with the bytes of an image file.
    workers: how many threads decode; by default one for each core, up to MAX_WORKERS.
  """
  workers = workers or min(MAX_WORKERS, _cores())
  waiting = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    for member in members:
      waiting.append((member, pool.submit(size_or_problem, member[-1])))
      if len(waiting) > 2 * workers:
        done, size = waiting.popleft()
        yield done, size.result()
    while waiting:
      done, size = waiting.popleft()
      yield done, size.result()


def _cores() -> int:
  """How many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def size_or_problem(data: bytes) -> Size | BadImage:
  """Returns the size of an image after decoding it, or what is wrong with it."""
  try:
    return image_size(data)
  except BadImage as error:
    return error
