"""Map losses: they compare where on the grid a model looks with the recorded points.

A map is a softmax over the grid of `map_logits` f32[B,h,w,K], one map per point. The spatial head
returns them; with the linear head they are the class activation maps of the points' classes.

  gaussian: cross-entropy of the map with a Gaussian of standard deviation sigma around the point,
    evaluated at the cell centres and normalised over the grid, so it is truncated at the border of
    the crop (ours; the usual target for keypoint heatmaps, which are regressed).
  energy: 1 - the share of the map's mass inside a window, like the energy loss of Rao et al. 2023
    (arXiv:2303.11932, ICCV), which is minus the share of positive attributions in the ground-truth
    box. A click has no extent, so the window here is that Gaussian, scaled to a maximum of 1.
  background: the share of the map's mass farther than a radius from the point; all positions within
    the radius are equally good (ours: a click marks one spot of an object, not its extent).
  heatmap: cross-entropy of the map with the recorded heat map of ClickMe, resized to the grid and
    normalised over it (ours; Fel et al. 2022, arXiv:2211.04533, compare it with gradients). It
    counts if the click derived from the heat map is in the crop.

Distances are in fractions of the crop: x of its width, y of its height.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models.heads import Outputs, cell_centres

MAP_LOSSES = ('none', 'gaussian', 'energy', 'background', 'heatmap')
_LARGE_WEIGHT = 3.0


def check_map_loss(loss: ConfigDict) -> None:
  """Raises UserError if a map loss option in `config.loss` is unknown or out of range."""
  if loss.map_loss not in MAP_LOSSES:
    raise UserError(
      f'loss.map_loss: unknown {loss.map_loss!r}; choose one of {", ".join(MAP_LOSSES)}.'
    )
  for key in ('map_sigma', 'map_radius'):
    if not 0 < loss[key] <= 1:
      raise UserError(
        f'loss.{key}: {loss[key]} is not a fraction of the crop; choose a value in (0, 1].'
      )


def notices(loss: ConfigDict) -> list[str]:
  """Warnings about the loss weights to print before training starts, one per line."""
  if loss.map_loss == 'none':
    return []
  lines = []
  if loss.point_weight and loss.map_weight:
    lines.append(
      f'loss.point_weight={loss.point_weight:g} and loss.map_loss={loss.map_loss!r} both train on '
      'the clicks: set loss.point_weight=0 to train on the map loss alone'
    )
  if loss.map_weight > _LARGE_WEIGHT:
    lines.append(
      f'loss.map_weight={loss.map_weight:g} is large: unlike the point loss, a map loss is about '
      'as large as the classification loss; the default is 0.3'
    )
  return lines


def map_logits(output: Outputs, label: jax.Array, *, multi_label: bool) -> jax.Array:
  """f32[B,h,w,K]: the maps that a map loss compares with the points, before the softmax.

  Args:
    output: the model's outputs.
    label: i32[B], the class whose activation map belongs to the click; not used with
      `multi_label`, where each class has its own point, nor with the spatial head.
    multi_label: see `label`.
  """
  if 'map_logits' in output:
    return output['map_logits']
  return output['cam'] if multi_label else class_map(output['cam'], label)


def class_map(maps: jax.Array, label: jax.Array) -> jax.Array:
  """[B,h,w,1]: the map of class `label` i32[B] among maps [B,h,w,C]."""
  return jnp.take_along_axis(maps, label[:, None, None, None], axis=-1)


def map_sum(
  logits: jax.Array,
  point: jax.Array,
  mask: jax.Array,
  loss: ConfigDict,
  heatmap: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """The map loss named by `loss.map_loss`; see the module's docstring.

  Args:
    logits: f32[B,h,w,K] from `map_logits`.
    point: f32[B,K,2], recorded, (x, y) in fractions of the crop.
    mask: f32[B,K], 1 where a point counts, or its weight (point_mask * example_mask).
    loss: `config.loss`: map_loss, map_sigma, map_radius.
    heatmap: [B,S,S], the heat maps in the crop, for 'heatmap'; one that is all 0 does not count.

  Returns:
    Sum over the points and their number, both weighted with the mask.
  """
  if loss.map_loss == 'heatmap':
    assert heatmap is not None  # check_loss has made sure of it
    target = heatmap_target(heatmap, logits.shape[1:3])
    mask = mask * target.sum((1, 2)).round()
    return jnp.sum(cross_entropy(logits, target) * mask), jnp.sum(mask)
  distance = _distance(point, cell_centres(*logits.shape[1:3]))
  if loss.map_loss == 'gaussian':
    each = cross_entropy(logits, gaussian_target(distance, loss.map_sigma))
  elif loss.map_loss == 'energy':
    each = 1 - _share(logits, gaussian_window(distance, loss.map_sigma))
  else:
    # On a coarse grid no centre may lie within the radius: then the nearest cells count as inside.
    nearest = distance.min((1, 2), keepdims=True)
    each = _share(logits, distance > jnp.maximum(loss.map_radius, nearest))
  return jnp.sum(each * mask), jnp.sum(mask)


def _distance(point: jax.Array, centres: jax.Array) -> jax.Array:
  """f32[B,h,w,K]: distances between cell centres [h,w,2] and points [B,K,2]."""
  return jnp.linalg.norm(centres[:, :, None] - point[:, None, None], axis=-1)


def gaussian_window(distance: jax.Array, sigma: float) -> jax.Array:
  """f32[B,h,w,K]: a Gaussian of `distance`, scaled to a maximum of 1 on the grid."""
  exponent = -0.5 * (distance / sigma) ** 2
  return jnp.exp(exponent - exponent.max((1, 2), keepdims=True))


def gaussian_target(distance: jax.Array, sigma: float) -> jax.Array:
  """f32[B,h,w,K]: a Gaussian of `distance` that sums to 1 over the grid."""
  return jax.nn.softmax(-0.5 * (distance / sigma) ** 2, axis=(1, 2))


def heatmap_target(heatmap: jax.Array, grid: tuple[int, ...]) -> jax.Array:
  """f32[B,h,w,1]: heat maps [B,S,S] resized to a grid (h, w) and summing to 1, or all 0."""
  heat = jax.image.resize(
    heatmap.astype(jnp.float32), (heatmap.shape[0], *grid), 'linear', antialias=True
  )
  total = heat.sum((1, 2), keepdims=True)
  return (heat / jnp.where(total > 0, total, 1))[..., None]


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
  """f32[B,K]: cross-entropy of maps, the softmax of `logits` over the grid, with their targets.

  Args:
    logits: [B,h,w,K].
    target: f32[B,h,w,K], summing to 1 over the grid.
  """
  return -jnp.sum(target * _log_maps(logits), axis=(1, 2))


def _share(logits: jax.Array, window: jax.Array) -> jax.Array:
  """f32[B,K]: the share of each map's mass inside a window of weights from 0 to 1."""
  return jnp.sum(jnp.exp(_log_maps(logits)) * window, axis=(1, 2))


def _log_maps(logits: jax.Array) -> jax.Array:
  return jax.nn.log_softmax(logits.astype(jnp.float32), axis=(1, 2))
