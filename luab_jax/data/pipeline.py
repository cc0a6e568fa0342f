"""From TFRecords to batches. This docstring is the batch contract of the whole project.

Every batch is a dict of

  image         uint8[B, S, S, 3]    RGB as decoded; models normalise it, on the device
  label         int32[B], or float32[B, C] of 0 and 1 if an image can have several (COCO)
  point         float32[B, K, 2]     (x right, y down) in [0, 1] of the CROP; 0 where masked
  point_mask    float32[B, K]        1 where there is a point inside the crop
  example_mask  float32[B]           0 for the padding of the last evaluation batch, else 1

Data sets with heat maps (ClickMe) add

  heatmap       uint8[B, S, S]       moved, cropped and erased like the image; values unchanged
  human_map     float32[B, S, S]     `heatmaps.smoothed`; only with `whole=True`

`eval_batches(..., boxes=True)` adds the ground-truth boxes, clipped to the view, M = MAX_BOXES:

  box           float32[B, M, 4]     (x0, y0, x1, y1) in [0, 1] of the view; 0 where masked
  box_mask      float32[B, M]        1 where there is a box that is at least partly in view
  box_label     int32[B, M]          the class of the image, or of the COCO instance
  box_overflow  int32[B]             boxes in the view beyond the first M, which are left out

`eval_batches(..., names=True)` adds file_name bytes[B] (dtype object; b'' for padding).

For COCO, `eval_batches` adds size_group and, with icons, icon_group, int32[B, C] (`Source.groups`),
which, like the labels, describe the whole image.

`label_set_batches`, for benchmark sets without byproducts (robustness_sets.py), has image,
example_mask and

  valid_labels  bool[B, C]           the correct classes; none: the image does not count
  class_mask    bool[B, C]           the classes that a prediction is chosen from
  mask          float32[B, S, S, 1]  1 on the foreground; only for sets with masks

K = 1 for ImageNet-AB and ClickMe, 80 for COCO-AB (one per class), T for traces. B is the host's
share of the global batch. There is no -1 and no (y, x) order.

Training: row r of step s is number g = s * batch_size + r of an endless stream of epochs of N
examples; epoch g // N, position g % N. Order = f(seed, epoch, batch_size), see shuffling.py,
augmentation = f(seed, epoch, position), both stateless: a run that is resumed at `start_step`, or
spread over other hosts, sees the same bytes. The view is a window as in torchvision's
RandomResizedCrop, resized, jittered, flipped, augmented and partly erased (augment.py).

Evaluation: every example once, in file order; each host reads a contiguous share of the split. The
short side is resized to `eval_resize` and the centre cropped; for localisation, the whole image is
squashed to S x S instead (`whole=True`). Evaluation always uses the real byproducts and labels:
`control`, `byproduct_fraction`, the filters and `icon_label` affect training only.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from luab_jax import cores
from luab_jax.data import examples, robustness_sets, shuffling, tfrecords
from luab_jax.data.batches import Batches, batched
from luab_jax.data.controls import make_control
from luab_jax.data.dataset import DatasetSpec, Fields, Source, dataset_spec
from luab_jax.data.filters import make_filter
from luab_jax.data.rows import Rows

__all__ = [
  'Batches',
  'DatasetSpec',
  'EvalSplits',
  'Rows',
  'dataset_spec',
  'eval_batches',
  'label_set_batches',
  'train_batches',
]

# Folded into the seed, one for each use of it.
_ORDER, _AUGMENT, _CONTROL = 0, 1, 2
_MEAN_OF = 10_000  # examples


def train_batches(
  data: ConfigDict, spec: DatasetSpec, rows: Rows, *, seed: int, start_step: int = 0
) -> Batches:
  """The endless training batches of one host, from `start_step` on.

  Args:
    data: the `data` part of a config.
    spec: of the data set, from `dataset_spec`.
    rows: of the host. A batch larger than the data set spans several epochs.
    seed: for order, augmentation and controls.
    start_step: first step; earlier records of its epoch are read but not decoded.

  Returns:
    Batches (module docstring) of `rows.count` examples.

  Raises:
    UserError: wrong split or batch size, or filters that leave no byproduct; while iterating, an
      unreadable record.
  """
  rows.check()
  source = Source(data, spec, data.train_split)
  stream = shuffling.shuffled(
    source.split,
    tfrecords.fold(seed, _ORDER),
    rows,
    start_step=start_step,
    buffer_size=data.shuffle_buffer,
  )
  filtered, dropped = make_filter(source)
  control = make_control(source, tfrecords.fold(seed, _CONTROL), filtered)

  @tf.autograph.experimental.do_not_convert  # plain ops: conversion only costs start-up time
  def example(epoch: tf.Tensor, position: tf.Tensor, index: tf.Tensor, record: tf.Tensor) -> Fields:
    fields = source.parse(record)
    points, has = control(index, *source.train_points(filtered(index, fields)))
    example_seed = tfrecords.fold(seed, _AUGMENT, epoch, position)
    return examples.train_example(source, fields, points, has, example_seed)

  dataset = stream.map(example, num_parallel_calls=cores(), deterministic=True)
  return batched(dataset, stream, rows, source, dropped)


class EvalSplits:
  """The evaluation batches of the splits of a data set.

  TensorFlow traces the code from a record to an example, which takes longer than reading a small
  split. This is done once for each view and reused by all splits and evaluations.

  Attributes:
    data: the `data` part of a config.
    spec: of the data set, from `dataset_spec`.
    builder: of the data set, read-only.
    has_boxes: whether the data set has ground-truth boxes.
  """

  def __init__(self, data: ConfigDict, spec: DatasetSpec, rows: Rows):
    """`rows`: of the host."""
    self.data = data
    self.spec = spec
    self.builder = tfrecords.open_builder(data.name, data.data_dir)
    self.has_boxes = 'objects' in self.builder.info.features
    self._rows = rows
    self._views: dict[tuple[bool, ...], Callable[[tf.Tensor], Fields]] = {}
    self._examples: dict[tuple[str, tuple[bool, ...]], _Examples] = {}

  def batches(
    self,
    split: str,
    *,
    boxes: bool = False,
    whole: bool = False,
    names: bool = False,
    max_examples: int | None = None,
  ) -> tuple[Batches, int]:
    """Every example of a split once over all hosts, in file order.

    Args:
      split: TFDS split or subsplit.
      boxes: whether to add the ground-truth boxes; all are masked if the data set has none.
      whole: whether to squash the whole image to the input size (`examples.whole_view`) instead of
        cropping its centre.
      names: whether to add the file names.
      max_examples: only the first ones, a random sample since TFDS shuffled them; None: all.

    Returns:
      (Batches, their number, which is the same on every host). The last batch is padded with zeros,
      with example_mask 0; a host may get a batch of nothing but padding.

    Raises:
      UserError: wrong split or batch size; while iterating, an unreadable record.
    """
    view = boxes, whole, names
    key = split, view
    if key not in self._examples:
      objects = boxes or self.spec.multi_label
      source = Source(self.data, self.spec, split, objects=objects, builder=self.builder)

      def example(record: tf.Tensor) -> Fields:
        fields = source.parse(record)
        name = {'file_name': fields['file_name']} if names else {}
        return examples.eval_example(source, fields, boxes=boxes, whole=whole) | name

      traced = self._views.setdefault(view, tf.function(example, autograph=False))
      self._examples[key] = _Examples(source, traced, self._rows)
    return self._examples[key].once(max_examples)

  def num_examples(self) -> dict[str, int]:
    """{name in `data.eval_splits`: its examples}; raises UserError for an empty split."""
    return {
      name: tfrecords.open_split(self.builder, split).num_examples
      for name, split in self.data.eval_splits.items()
    }

  @property
  def mean_point(self) -> np.ndarray:
    """float32[K, 2]: the mean recorded point of the training split, in the evaluation view.

    The mean is over the points inside the view of the first 10,000 examples, a random sample. They
    are the real ones whatever `control`, `byproduct_fraction` and the filters say, so that runs
    that differ in these are compared with the same point. If no example has point k, it is the
    centre.

    Raises:
      UserError: an unreadable record.
    """
    return self._points[0]

  @property
  def num_with_points(self) -> int:
    """How many of these examples have a point; raises UserError as `mean_point` does."""
    return self._points[1]

  @functools.cached_property
  def _points(self) -> tuple[np.ndarray, int]:
    source = Source(self.data, self.spec, self.data.train_split, builder=self.builder)
    total, count = np.zeros((self.spec.num_points, 2)), np.zeros((self.spec.num_points, 1))
    with_points = 0

    def point(record: tf.Tensor) -> Fields:
      return examples.eval_points(source, source.parse(record))

    for batch in _Examples(source, point, Rows(_MEAN_OF // 10)).once(_MEAN_OF)[0]:
      total += batch['point'].sum(0, dtype=np.float64)
      count += batch['point_mask'].sum(0, dtype=np.float64)[:, None]
      with_points += int((batch['point_mask'] > 0).any(-1).sum())
    mean = np.where(count, total / np.maximum(count, 1), 0.5).astype(np.float32)
    return mean, with_points


def eval_batches(
  data: ConfigDict, spec: DatasetSpec, split: str, rows: Rows, **view: Any
) -> tuple[Batches, int]:
  """`EvalSplits.batches` of a single split."""
  return EvalSplits(data, spec, rows).batches(split, **view)


def label_set_batches(
  data: ConfigDict, source: robustness_sets.Source, rows: Rows
) -> tuple[Batches, int]:
  """As `EvalSplits.batches`, for the images of a benchmark set and their valid labels.

  Args:
    data: the `data` part of a config: how images are resized and cropped.
    source: of the set.
    rows: of the host.

  Returns:
    (Batches, their number, which is the same on every host).
  """
  class_mask = source.class_mask  # may read the whole set: not while TensorFlow traces the pipeline
  return _Examples(
    source,
    lambda record: examples.label_set_example(
      data, source, source.parse(record), tf.constant(class_mask)
    ),
    rows,
  ).once()


class _Examples:
  """A host's examples of a source, in file order."""

  def __init__(
    self,
    source: Source | robustness_sets.Source,
    make_example: Callable[[tf.Tensor], Fields],
    rows: Rows,
  ):
    rows.check()
    self._source, self._rows, self._make_example = source, rows, make_example
    self._datasets: dict[int, tuple[tf.data.Dataset, tf.data.Dataset]] = {}  # by their length

  def once(self, max_examples: int | None = None) -> tuple[Batches, int]:
    """(Batches with every example or the first ones once, padded; their number)."""
    source, rows, num_examples = self._source, self._rows, self._source.split.num_examples
    if max_examples is not None:
      num_examples = min(num_examples, max_examples)
    start, stop = rows.span(num_examples)

    @tf.autograph.experimental.do_not_convert
    def example(_: tf.Tensor, record: tf.Tensor) -> Fields:
      return self._make_example(record)

    if num_examples not in self._datasets:
      stream = tfrecords.in_order(tfrecords.part_of(source.split, start, stop))
      dataset = stream.map(example, num_parallel_calls=cores(), deterministic=True)
      self._datasets[num_examples] = stream, dataset
    stream, dataset = self._datasets[num_examples]
    num_batches = -(-num_examples // rows.batch_size)
    padding = num_batches * rows.count - (stop - start)
    zeros = tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), dataset.element_spec)
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors(zeros).repeat(padding))
    return batched(dataset, stream, rows, source), num_batches
