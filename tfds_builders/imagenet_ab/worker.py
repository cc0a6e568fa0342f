"""Makes the records of images that are joined with their XMLs; run as a process, for a build."""

from luab_jax.runtime import lean_process

lean_process.import_tensorflow()  # before what is imported here

import msgspec  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

from tfds_builders import packing, workers  # noqa: E402
from tfds_builders.build_summary import SummaryCalls  # noqa: E402
from tfds_builders.imagenet_ab import example  # noqa: E402
from tfds_builders.imagenet_ab.release import Release  # noqa: E402

# Split, class name, file name, image file, XML of its byproducts, XML of its boxes.
Item = tuple[str, str, str, bytes, bytes | None, bytes | None]


class Encoder:
  """Makes the record of an image that was joined with its XMLs."""

  def __init__(self, release: Release):
    self._release = release
    label = tfds.features.ClassLabel(names=list(release.classes))
    self._packed = packing.Packer(example.features(label))

  def __call__(self, item: Item, summary: SummaryCalls) -> tuple[str, bytes] | None:
    """Returns (key, record), or None if the image cannot be used, which is said to `summary`."""
    split, label, file_name, data, xml, box_xml = item
    made = self._release.example(split, (label, file_name, data), xml, box_xml, summary)
    return (f'{label}/{file_name}', self._packed(made)) if made else None


def _start(setup: bytes) -> Encoder:
  return Encoder(
    msgspec.msgpack.decode(setup, type=Release, dec_hook=lambda kind, value: kind(value))
  )


if __name__ == '__main__':
  workers.serve(_start, Item)
