"""The data set that a config's `data` part selects: its options, metadata and columns.

targets.py turns a record's columns into points and labels; tfrecords.py finds and reads records.
"""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from luab_jax.data import augment, heatmaps, image_ops, targets, tfrecords
from luab_jax.errors import UserError

Batch = dict[str, Any]  # {name: array}: see the batch contract in pipeline.py
Fields = dict[str, Any]  # {column of a record: tensor}, nested, or {name in a batch: tensor}

# Keys of `data`, in the order in which filters.py applies them; 0: off.
FILTERS = ('min_estimate_ms', 'max_estimate_ms', 'min_worker_ms', 'max_per_worker')


class DatasetSpec(NamedTuple):
  """What a model needs to know about a data set."""

  name: str
  class_names: list[str]
  num_classes: int
  multi_label: bool
  num_points: int  # K of the batch contract
  num_examples: dict[str, int]  # of each split
  is_trace: bool = False  # whether the points are a mouse trace in time order
  has_heatmap: bool = False  # whether images have heat maps instead of clicks

  @property
  def point_per_class(self) -> bool:
    """Whether the points are icons, one per class."""
    return self.multi_label and not self.is_trace


def dataset_spec(data: ConfigDict) -> DatasetSpec:
  """Reads the metadata of the data set that a config's `data` part selects.

  Args:
    data: the `data` part of a config.

  Raises:
    UserError: the data set is missing (the message has the command that builds it) or has no
      byproducts, or an option is invalid or does not fit the data set.
  """
  check_options(data)
  builder = tfrecords.open_builder(data.name, data.data_dir)
  features = builder.info.features
  multi_label, has_heatmap = 'icons' in features, 'heatmap' in features
  if not multi_label and not has_heatmap and 'clicks' not in features:
    raise UserError(
      f'{builder.data_path} has no byproduct columns (clicks, icons or heat maps): build it '
      'with one of the builders in tfds_builders/'
    )
  if not multi_label:
    _check_click(data, has_heatmap)
  narrated, is_trace = 'narratives' in features, data.byproduct == 'trace'
  if multi_label and is_trace and not narrated:
    raise UserError(
      f"data.byproduct='trace' needs one object per image or narratives, but {data.name} has icons "
      "of several objects: set data.byproduct='click'"
    )
  if multi_label and narrated != (data.icons == 'named'):
    raise UserError(
      f"data.icons='{data.icons}' does not fit {data.name}: set data.icons="
      f"'{'named' if narrated else 'replayed'}'"
    )
  if multi_label and (key := next(filter(data.get, FILTERS), '')):
    raise UserError(
      f'data.{key}={data[key]} filters clicks of ImageNet-AB, but {data.name} has icons: set '
      f'data.{key}=0'
    )
  names = features['labels'].feature.names if multi_label else features['label'].names
  num_points = len(names) if multi_label else 1
  return DatasetSpec(
    name=data.name,
    class_names=list(names),
    num_classes=len(names),
    multi_label=multi_label,
    num_points=data.trace_points if is_trace else num_points,
    num_examples={name: split.num_examples for name, split in builder.info.splits.items()},
    is_trace=is_trace,
    has_heatmap=has_heatmap,
  )


def _check_click(data: ConfigDict, has_heatmap: bool) -> None:
  """Raises UserError for click options if the data set has heat maps, and vice versa."""
  choices = heatmaps.POINTS if has_heatmap else targets.CLICKS
  what = 'heat maps' if has_heatmap else 'clicks'
  if data.click not in choices and data.byproduct == 'click':
    raise UserError(
      f"data.click='{data.click}' does not fit {data.name}, which has {what}: choose one of "
      f'{", ".join(choices)}'
    )
  if has_heatmap and data.byproduct == 'trace':
    raise UserError(
      f"data.byproduct='trace': {data.name} has heat maps and no traces; set data.byproduct='click'"
    )
  if has_heatmap and (key := next(filter(data.get, FILTERS), '')):
    raise UserError(
      f'data.{key}={data[key]} filters clicks of ImageNet-AB, but {data.name} has heat maps: '
      f'set data.{key}=0'
    )


class Source:
  """One split of a data set, and how its records become fields, labels and points.

  Attributes:
    data: the `data` part of the config.
    spec: of the data set.
    split: where its records are.
  """

  def __init__(
    self,
    data: ConfigDict,
    spec: DatasetSpec,
    split: str,
    *,
    objects: bool = False,
    builder: tfds.core.DatasetBuilder | None = None,
  ):
    """`objects`: whether to parse ground-truth boxes, if any; `builder`: if already open."""
    self.data = data
    self.spec = spec
    builder = builder or tfrecords.open_builder(data.name, data.data_dir)
    self.split = tfrecords.open_split(builder, split)
    self._features = builder.info.features
    self._objects = objects and 'objects' in self._features

  def parse(self, record: tf.Tensor) -> Fields:
    """A serialised record -> nested dict of the columns in use; `image` stays undecoded bytes."""
    return self._parse(record, self._columns() | self._object_columns() | {'image': True})

  def parse_byproducts(self, record: tf.Tensor) -> Fields:
    """As `parse`, without the image and the boxes."""
    return self._parse(record, self._columns())

  def parse_blocks(self, record: tf.Tensor) -> Fields:
    """The columns that the filters of ImageNet-AB's byproducts use."""
    blocks = {'selected', 'estimate_time_ms', 'estimate_time_known', 'worker_id'}
    return self._parse(record, {'file_name': True, 'blocks': blocks})

  def parse_file(self, record: tf.Tensor) -> Fields:
    """Only `file_name` and `image`, for an error message."""
    return self._parse(record, {'file_name': True, 'image': True})

  def _parse(self, record: tf.Tensor, columns: dict[str, Any]) -> Fields:
    features = tfds.decode.PartialDecoding(columns).extract_features(self._features)
    decoders = {'image': tfds.decode.SkipDecoding()} if 'image' in columns else None
    return features.deserialize_example(record, decoders=decoders)

  def _columns(self) -> dict[str, Any]:
    """The columns that the chosen options need; nothing else in a record is parsed."""
    named = {'file_name': True}
    rows = {'x', 'y', 'time_ms', 'block'}
    if self.spec.multi_label and self.spec.is_trace:
      return named | {'labels': True, 'trace': rows}
    if self.spec.multi_label and self.data.icons == 'adds_only':
      return named | {'labels': True, 'actions': {'action', 'icon', 'to_x', 'to_y'}}
    if self.spec.multi_label:
      return named | {'labels': True, 'icons': {'label', 'x', 'y'}}
    if self.spec.has_heatmap:
      return named | {'label': True, 'heatmap': True}
    columns = named | {'label': True, 'blocks': {'selected'}, 'clicks': rows}
    return columns | {'trace': rows} if self.data.byproduct == 'trace' else columns

  def _object_columns(self) -> dict[str, Any]:
    if not self._objects:
      return {}
    if self.spec.multi_label:
      return {'objects': {'bbox', 'label', 'is_crowd', 'area'}, 'has_record': True}
    return {'objects': {'bbox'}}

  def points(self, fields: Fields) -> tuple[tf.Tensor, tf.Tensor]:
    """(float32[K, 2], float32[K]) relative to the image, see targets.py."""
    data = self.data
    if self.spec.multi_label and self.spec.is_trace:
      return targets.narrated_trace_points(fields['trace'], data.trace_points)
    if self.spec.multi_label:
      adds_only = data.icons == 'adds_only'
      add = self._features['actions']['action'].str2int('add') if adds_only else 0
      points, has = targets.icon_points(fields, self.spec.class_names, add, data.icons)
      if data.icon_points == 'with_instance':
        has *= self.label(fields)
      return points * has[:, None], has
    if self.spec.has_heatmap:
      return heatmaps.click_point(fields['heatmap'], data.click)
    selected = fields['blocks']['selected']
    if data.byproduct == 'trace':
      return targets.trace_points(fields['trace'], fields['clicks'], selected, data.trace_points)
    return targets.click_point(fields['clicks'], selected, data.click)

  def train_points(self, fields: Fields) -> tuple[tf.Tensor, tf.Tensor]:
    """As `points`, but only for the `data.byproduct_fraction` of the images that keep theirs."""
    points, has = self.points(fields)
    if self.data.byproduct_fraction < 1:
      points, has = targets.subsample_byproducts(
        points, has, fields['file_name'], self.data.byproduct_fraction
      )
    return points, has

  def boxes(self, fields: Fields) -> tuple[tf.Tensor, tf.Tensor]:
    """(float32[n, 4] (x0, y0, x1, y1) relative to the image, int32[n] class), see targets.py."""
    if not self._objects:
      return tf.zeros([0, 4]), tf.zeros([0], tf.int32)
    return targets.true_boxes(fields['objects'], self.label(fields), self.spec.multi_label)

  def groups(self, fields: Fields, has: tf.Tensor) -> Fields:
    """Groups of labels whose mAP is reported separately, from fields and `has` of `points`.

    {} without `objects` or with one label per image; otherwise size_group int32[C], see targets.py,
    and, unless the points are a trace, icon_group int32[C]: 0 for an image nobody annotated, 1 for
    a class without an icon, 2 for a class with one.
    """
    if not self._objects or not self.spec.multi_label:
      return {}
    size = {'size_group': targets.size_groups(fields['objects'], self.spec.num_classes)}
    if self.spec.is_trace:
      return size
    return size | {'icon_group': tf.where(fields['has_record'], 1 + tf.cast(has, tf.int32), 0)}

  def label(self, fields: Fields) -> tf.Tensor:
    """int32 scalar, or float32[C] of 0 and 1."""
    if self.spec.multi_label:
      return targets.multi_hot(fields['labels'], self.spec.num_classes)
    return tf.cast(fields['label'], tf.int32)


def check_options(data: ConfigDict) -> None:
  """Raises UserError for option values that are unknown, out of range or meaningless."""
  for key, allowed in (
    ('byproduct', targets.BYPRODUCTS),
    ('click', (*targets.CLICKS, *heatmaps.POINTS)),
    ('icons', targets.ICONS),
    ('icon_points', targets.ICON_POINTS),
    ('icon_label', targets.ICON_LABELS),
    ('control', targets.CONTROLS),
    ('resize_method', image_ops.METHODS),
    ('augment', augment.AUGMENTS),
  ):
    if data[key] not in allowed:
      raise UserError(f"data.{key}='{data[key]}' is unknown: choose one of {', '.join(allowed)}")
  for key, low in (
    ('image_size', 1),
    ('eval_resize', data.image_size),
    ('shuffle_buffer', 1),
    ('color_jitter', 0),
    ('augment_ops', 1),
    ('mixup_alpha', 0),
    ('cutmix_alpha', 0),
    *((key, 0) for key in FILTERS),
    ('max_estimate_ms', data.max_estimate_ms and data.min_estimate_ms),
    ('trace_points', 2 if data.byproduct == 'trace' else 0),
  ):
    if not data[key] >= low:  # true for NaN as well
      raise UserError(f'data.{key}={data[key]} is too small: at least {low}')
  for key, largest in (
    ('byproduct_fraction', 1),
    ('random_erasing', 1),
    ('augment_magnitude', augment.MAX_MAGNITUDE),
  ):
    if not 0 <= data[key] <= largest:
      raise UserError(f'data.{key}={data[key]} must lie between 0 and {largest}')
  for key, high in (('crop_scale', 1), ('crop_ratio', float('inf'))):
    if len(data[key]) != 2 or not 0 < data[key][0] <= data[key][1] <= high:
      raise UserError(
        f'data.{key}={tuple(data[key])} must be (smallest, largest), both above 0'
        + ('' if high > 1 else ' and at most 1')
      )
