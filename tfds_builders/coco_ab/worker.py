"""Makes the records of images that are joined with all else; run as a process, for a build."""

import posixpath

from luab_jax.runtime import lean_process

lean_process.import_tensorflow()  # before what is imported here

import msgspec  # noqa: E402

from luab_jax.byproducts import coco_ab  # noqa: E402
from luab_jax.data.image_files import BadImage, image_size  # noqa: E402
from tfds_builders import packing, workers  # noqa: E402
from tfds_builders.build_summary import SummaryCalls  # noqa: E402
from tfds_builders.coco_ab import example  # noqa: E402
from tfds_builders.coco_ab.join import Instance, Listed, decoded  # noqa: E402

# Archive and member, image file, entry in the instances file, its instances, text of its record.
Item = tuple[str, bytes, Listed, list[Instance], str | None]


class Encoder:
  """Makes the record of an image that was joined with its annotations and byproducts."""

  def __init__(self, class_index: dict[str, int]):
    self._class_index = class_index
    self._packed = packing.Packer(example.features(tuple(class_index)))

  def __call__(self, item: Item, summary: SummaryCalls) -> tuple[str, bytes] | None:
    """Returns (key, record), or None if the image cannot be used, which is said to `summary`."""
    where, data, listed, instances, text = item
    try:
      size = image_size(data)
    except BadImage as error:
      summary.skip('undecodable image', where, error)
      return None
    if size != (listed.height, listed.width):
      summary.note('images of another size than listed')
    record = decoded(text) if text else None
    summary.add('instances', len(instances))
    if record:
      self._count(record, summary)
    file_name = posixpath.basename(where)
    made = example.build_example(
      data=data,
      file_name=file_name,
      size=size,
      listed=listed,
      instances=instances,
      record=record,
      class_index=self._class_index,
    )
    return file_name, self._packed(made)

  def _count(self, record: coco_ab.CocoRecord, summary: SummaryCalls) -> None:
    icons, unknown = coco_ab.replay_icons(record.actions, self._class_index)
    summary.add('with a record')
    summary.add('icons', len(icons))
    summary.add('actions', len(record.actions.action))
    summary.add('trace points', len(record.trace_xy))
    if unknown:
      summary.note('records with icons of no known class')
      summary.warn(
        f'{coco_ab.FILE_NAME}: record {record.number} (image_id {record.image_id}): '
        f'unknown icons are not replayed: {unknown!r}'
      )


def _start(setup: bytes) -> Encoder:
  return Encoder(msgspec.msgpack.decode(setup, type=dict[str, int]))


if __name__ == '__main__':
  workers.serve(_start, Item)
