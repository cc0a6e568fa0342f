"""Marks, captions and alt texts of the images."""

from collections.abc import Iterable, Sequence

import ml_collections
import numpy as np

from luab_jax.data.dataset import DatasetSpec
from luab_jax.report.plots import Mark, Trajectory


def marks(points: np.ndarray, spec: DatasetSpec, recorded: bool = True) -> list[Mark]:
  """Marks for the points f32[K,2] of an image, NaN where there is none; only the end of a trace."""
  if not spec.point_per_class:
    points = points[-1:]
  labels = spec.class_names if spec.point_per_class else ['']
  return [
    Mark(x, y, recorded, label)
    for (x, y), label in zip(np.clip(points, 0, 1).tolist(), labels, strict=True)
    if np.isfinite([x, y]).all()
  ]


def trajectories(
  recorded: np.ndarray, predicted: np.ndarray, spec: DatasetSpec
) -> list[Trajectory]:
  """Trajectories of the traces f32[K,2] of an image, NaN where there is none; [] without traces."""
  if not spec.is_trace:
    return []
  return [
    Trajectory(np.clip(points, 0, 1), is_recorded)
    for points, is_recorded in ((recorded, True), (predicted, False))
    if np.isfinite(points).any()
  ]


def describe_marks(marks: Iterable[Mark]) -> str:
  """'recorded point of dog at (0.20, 0.31), …', or 'no point'."""
  parts = [
    f'{_source(mark)} point{" of " * bool(mark.label)}{mark.label} at ({mark.x:.2f}, {mark.y:.2f})'
    for mark in marks
  ]
  return ', '.join(parts) or 'no point'


def describe_boxes_and_trajectories(
  boxes: Iterable[Sequence[float]], trajectories: Iterable[Trajectory]
) -> str:
  """'; …' for ground-truth boxes f32[M,4] and trajectories; '' without any."""
  parts = [
    f'ground-truth box from ({x0:.2f}, {y0:.2f}) to ({x1:.2f}, {y1:.2f})'
    for x0, y0, x1, y1 in boxes
  ]
  for trajectory in trajectories:
    known = trajectory.points[np.isfinite(trajectory.points).all(-1)]
    (x0, y0), (x1, y1) = known[0], known[-1]
    parts.append(
      f'{_source(trajectory)} path of {len(known)} points from ({x0:.2f}, {y0:.2f}) to '
      f'({x1:.2f}, {y1:.2f})'
    )
  return ''.join(f'; {part}' for part in parts)


def _source(item: Mark | Trajectory) -> str:
  return 'recorded' if item.recorded else 'predicted'


def format_classes(spec: DatasetSpec, label: np.ndarray) -> str:
  """The class name of a scalar label, or the class names of a multi-label f32[C]."""
  if spec.multi_label:
    return ', '.join(spec.class_names[c] for c in np.flatnonzero(label)) or 'none of the classes'
  return spec.class_names[label]


def describe_run(config: ml_collections.ConfigDict, spec: DatasetSpec) -> str:
  """Model, dataset and main settings in one line."""
  return (
    f'{config.model.name} with {config.model.head} head on {spec.name}, '
    f'{config.data.image_size} px, point loss weight {config.loss.point_weight:g}'
  )
