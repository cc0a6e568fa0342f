"""Decodes every image once, in threads, so that damaged ones are known before they are stored."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from luab_jax import cores
from luab_jax.data.image_files import BadImage, image_size

MAX_THREADS = 8  # one thread reads, joins and encodes for all of them
_IMAGES_PER_THREAD = 4  # read ahead

Item = TypeVar('Item')


def check_image(data: bytes) -> tuple[int, int] | BadImage:
  """Returns the (height, width) of an image after decoding it, or why it cannot be decoded."""
  try:
    return image_size(data)
  except BadImage as error:
    return error


def check_images(
  items: Iterable[Item], data_of: Callable[[Item], bytes]
) -> Iterator[tuple[Item, tuple[int, int] | BadImage]]:
  """Yields (item, what `check_image` says of its image) in the order of the items.

  TensorFlow decodes without Python's lock, so threads are enough. At most four items a thread are
  held beyond the one that is yielded.

  Args:
    items: whatever has an image; iterated in the calling thread.
    data_of: returns the image file of an item.
  """
  threads = min(cores(), MAX_THREADS)
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  window: collections.deque = collections.deque()
  try:
    for item in items:
      window.append((item, pool.submit(check_image, data_of(item))))
      if len(window) > threads * _IMAGES_PER_THREAD:
        first, size = window.popleft()
        yield first, size.result()
    for first, size in window:
      yield first, size.result()
  finally:
    pool.shutdown(cancel_futures=True)
