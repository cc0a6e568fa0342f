"""Decodes every image once, in threads, and re-encodes those that cannot be stored as they are."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from luab_jax import cores
from luab_jax.data.image_files import BadImage, EncodedImage, Reduction, encode

MAX_THREADS = 8  # one thread reads, joins and encodes for all of them
_IMAGES_PER_THREAD = 4  # read ahead

Item = TypeVar('Item')


def check_image(data: bytes, reduction: Reduction | None = None) -> EncodedImage | BadImage:
  """Returns an image as it is stored, EXIF orientation ignored, or why it cannot be used."""
  try:
    return encode(data, reduction=reduction)
  except BadImage as error:
    return error


def check_images(
  items: Iterable[Item], data_of: Callable[[Item], bytes], reduction: Reduction | None = None
) -> Iterator[tuple[Item, EncodedImage | BadImage]]:
  """Yields (item, result of `check_image` on its image) in the order of the items.

  TensorFlow releases the GIL while it decodes, so threads are enough. At most four items per thread
  are held in addition to the yielded one.

  Args:
    items: whatever has an image; iterated in the calling thread.
    data_of: returns the image file of an item.
    reduction: for large images; None: all keep their size.
  """
  threads = min(cores(), MAX_THREADS)
  pool = concurrent.futures.ThreadPoolExecutor(threads)
  window: collections.deque = collections.deque()
  try:
    for item in items:
      window.append((item, pool.submit(check_image, data_of(item), reduction)))
      if len(window) > threads * _IMAGES_PER_THREAD:
        first, image = window.popleft()
        yield first, image.result()
    for first, image in window:
      yield first, image.result()
  finally:
    pool.shutdown(cancel_futures=True)
