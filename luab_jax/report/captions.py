"""Words and marks for the pictures of the report: what an image shows, for eyes and for ears."""

import numpy as np

from luab_jax.report import plots


def marks_of(points, spec, true=True):
  """Marks for f32[K,2], NaN where there is none; of a trace only its end."""
  if not spec.multi_label:
    points = points[-1:]
  return [
    plots.Mark(
      *np.clip(points[k], 0, 1).tolist(), true, spec.class_names[k] if spec.multi_label else ''
    )
    for k in np.flatnonzero(np.isfinite(points).all(-1))
  ]


def paths_of(true, predicted, spec):
  """Paths for the traces f32[K,2] of an image, NaN where there is none; [] without traces."""
  if spec.multi_label or spec.num_points == 1:
    return []
  return [
    plots.Path(np.clip(points, 0, 1), is_true)
    for points, is_true in ((true, True), (predicted, False))
    if np.isfinite(points).any()
  ]


def told_boxes_and_paths(boxes, paths):
  """'; …' on true boxes f32[M,4] and on paths, in words; '' without any."""
  parts = [
    f'true box from ({x0:.2f}, {y0:.2f}) to ({x1:.2f}, {y1:.2f})' for x0, y0, x1, y1 in boxes
  ]
  for path in paths:
    seen = path.points[np.isfinite(path.points).all(-1)]
    (x0, y0), (x1, y1) = seen[0], seen[-1]
    parts.append(
      f'{"recorded" if path.true else "predicted"} path of {len(seen)} points from '
      f'({x0:.2f}, {y0:.2f}) to ({x1:.2f}, {y1:.2f})'
    )
  return ''.join(f'; {part}' for part in parts)


def told(marks):
  """Where the points are, in words."""
  parts = [
    f'{"recorded" if mark.true else "predicted"} point{" of " + mark.text if mark.text else ""} at '
    f'({mark.x:.2f}, {mark.y:.2f})'
    for mark in marks
  ]
  return ', '.join(parts) or 'no point'


def class_names(spec, label):
  """The class of i32 scalar, or the classes of f32[C]."""
  if spec.multi_label:
    return ', '.join(spec.class_names[c] for c in np.flatnonzero(label)) or 'none of the classes'
  return spec.class_names[label]


def percent(share):
  """0.834 -> '83 %'."""
  return f'{100 * share:.0f} %'


def described(config, spec):
  """What is trained on what, in a line."""
  return (
    f'{config.model.name} with the {config.model.head} head on {spec.name}, '
    f'{config.data.image_size} px, point weight {config.loss.point_weight:g}'
  )
