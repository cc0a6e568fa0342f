"""The features of coco_ab, and how an image and what belongs to it become an example."""

from types import ModuleType

import numpy as np
import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab
from tfds_builders.coco_ab import records
from tfds_builders.coco_ab.join import Instance, Joined, Listed
from tfds_builders.coco_ab.records import column

_DOC = tfds.features.Documentation


def features(
  class_names: tuple[str, ...] | None = coco_ab.CLASS_NAMES, byproducts: ModuleType = records
) -> tfds.features.FeaturesDict:
  """Returns the features of an example. Points are x right, y down; boxes are in TFDS's order.

  Args:
    class_names: the classes; None: they are set later, once for all labels.
    byproducts: records.py or narratives.py, whose features are added.
  """
  label = tfds.features.ClassLabel(names=class_names)
  return tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(
        doc='The file as released, byte for byte; reduced in …_short288.'
      ),
      'file_name': tfds.features.Text(
        doc='Such as COCO_train2014_000000000009.jpg; in COCO 2017 000000000009.jpg.'
      ),
      'image_id': column(np.int64, "COCO's image id."),
      'image_size': tfds.features.FeaturesDict(
        {
          'height': column(np.int32, 'Pixels of the decoded image.'),
          'width': column(np.int32, 'Pixels of the decoded image.'),
        },
        doc='Size of the image.',
      ),
      'labels': tfds.features.Sequence(
        label,
        doc=_DOC(desc='Classes with at least one instance, crowds included; sorted, each once.'),
      ),
      'objects': tfds.features.Sequence(
        {
          'id': column(np.int64, "COCO's annotation id."),
          'bbox': tfds.features.BBoxFeature(
            doc='[ymin, xmin, ymax, xmax] as fractions of the image, clipped to it.'
          ),
          'area': column(np.float32, 'Area of the segmentation in pixels, before any reduction.'),
          'is_crowd': column(np.bool_, 'Whether the box is around a crowd.'),
          'label': label,
        },
        doc=_DOC(desc="COCO's instances, in the order of their ids."),
      ),
      **byproducts.features(label),
    }
  )


def build_example(
  image: Joined,
  size: tuple[int, int],
  class_index: dict[str, int] = coco_ab.CLASS_INDEX,
  byproducts: ModuleType = records,
) -> dict:
  """Returns an example of `features`.

  Args:
    image: the image file and what belongs to it; boxes are relative to the size it is listed with.
    size: (height, width) of the decoded image in pixels.
    class_index: the classes, name -> index.
    byproducts: as for `features`.
  """
  return {
    'image': image.data,
    'file_name': image.file_name,
    'image_id': image.listed.image_id,
    'image_size': {'height': size[0], 'width': size[1]},
    'labels': sorted({instance.label for instance in image.instances}),
    'objects': {
      'id': [instance.id for instance in image.instances],
      'bbox': [_relative_box(instance, image.listed) for instance in image.instances],
      'area': [instance.area for instance in image.instances],
      'is_crowd': [instance.is_crowd for instance in image.instances],
      'label': [instance.label for instance in image.instances],
    },
    **byproducts.encode(image.byproducts, class_index),
  }


def _relative_box(instance: Instance, listed: Listed) -> tfds.features.BBox:
  """Returns the box as fractions, clipped: rounding puts some of COCO's slightly outside."""

  def clip(value):
    return min(max(value, 0.0), 1.0)

  return tfds.features.BBox(
    ymin=clip(instance.y / listed.height),
    xmin=clip(instance.x / listed.width),
    ymax=clip((instance.y + instance.height) / listed.height),
    xmax=clip((instance.x + instance.width) / listed.width),
  )
