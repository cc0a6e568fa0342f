"""The terms of the joint loss as (sum, count) pairs of float32 scalars on one device.

Nothing is averaged here: a mean of per-device masked means is biased when points are rare, so the
training step adds up sums and counts over all devices (psum) and divides once.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models.map_losses import check_map_loss

Scalar = jax.Array | float
Sums = dict[str, tuple[Scalar, Scalar]]  # {name: (sum, count)} of losses and metrics

POINT_LOSSES = ('smooth_l1', 'l1', 'l2')


def check_loss(loss: ConfigDict, *, multi_label: bool = False, has_heatmap: bool = True) -> None:
  """Raises UserError if a value in `config.loss` is invalid, or invalid for this data set."""
  if not 0 <= loss.label_smoothing < 1:
    raise UserError(f'loss.label_smoothing: {loss.label_smoothing} is outside [0, 1).')
  if multi_label and loss.label_smoothing:
    raise UserError(
      'loss.label_smoothing: only softmax cross-entropy supports it; set it to 0 for a multi-label '
      'data set.'
    )
  if loss.point_loss not in POINT_LOSSES:
    raise UserError(
      f'loss.point_loss: unknown {loss.point_loss!r}; choose one of {", ".join(POINT_LOSSES)}.'
    )
  if loss.point_loss == 'smooth_l1' and loss.smooth_l1_beta <= 0:
    raise UserError(
      f'loss.smooth_l1_beta: {loss.smooth_l1_beta} is not above 0; for beta = 0 choose l1.'
    )
  check_map_loss(loss)
  if loss.map_loss == 'heatmap' and not has_heatmap:
    raise UserError(
      "loss.map_loss='heatmap': this data set has no heat maps (clickme/released has them); choose "
      'another map loss.'
    )


def classification_sum(
  logits: jax.Array,
  label: jax.Array,
  example_mask: jax.Array,
  *,
  multi_label: bool,
  label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Softmax cross-entropy, or sigmoid cross-entropy averaged over the classes, per example.

  Args:
    logits: [B,C].
    label: i32[B], or f32[B,C] of 0 and 1 with `multi_label`.
    example_mask: f32[B], 0 for padding; the weight in [0, 1] of the label of a mixed image.
    multi_label: sigmoid instead of softmax.
    label_smoothing: a in (1 - a) * one_hot + a / C, as in PyTorch; softmax only.

  Returns:
    Sum over the examples and their number, both weighted with the mask.
  """
  logits = logits.astype(jnp.float32)
  if multi_label:
    loss = optax.sigmoid_binary_cross_entropy(logits, label).mean(-1)
  elif label_smoothing:
    target = optax.smooth_labels(jax.nn.one_hot(label, logits.shape[-1]), label_smoothing)
    loss = optax.softmax_cross_entropy(logits, target)
  else:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
  return jnp.sum(loss * example_mask), jnp.sum(example_mask)


def point_sum(
  points: jax.Array, point: jax.Array, mask: jax.Array, *, kind: str, beta: float = 1.0
) -> tuple[jax.Array, jax.Array]:
  """Point regression loss: the mean over x and y of each point's loss, summed over the points.

  Args:
    points: [B,K,2], predicted.
    point: f32[B,K,2], recorded; both (x, y) in fractions of the crop.
    mask: f32[B,K], 1 where a point counts, or its weight (point_mask * example_mask).
    kind: 'smooth_l1' (PyTorch's: e^2 / (2 beta) below beta, |e| - beta / 2 above), 'l1' (|e|) or
      'l2' (e^2).
    beta: error at which smooth_l1 changes from quadratic to linear, > 0.

  Returns:
    Sum over the points and their number, both weighted with the mask.
  """
  points = points.astype(jnp.float32)
  if kind == 'smooth_l1':
    # Huber's loss has slope delta in its linear part, smooth L1 has slope 1.
    loss = optax.huber_loss(points, point, delta=beta) / beta
  elif kind == 'l1':
    loss = jnp.abs(points - point)
  else:
    loss = optax.squared_error(points, point)
  return jnp.sum(loss.mean(-1) * mask), jnp.sum(mask)


def point_weight_schedule(
  kind: str, weight: float, *, total_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
  """Returns the weight of the point loss or a map loss as a function of the step.

  Args:
    kind: 'constant'; 'warmup' (linearly from 0 at step 0 to `weight` at `warmup_steps`, then
      constant); 'cosine' (from `weight` at step 0 down to 0 at `total_steps`).
    weight: the highest weight, >= 0.
    total_steps: training steps of the run.
    warmup_steps: for 'warmup', > 0.

  Raises:
    UserError: an unknown kind, a negative weight, or 'warmup' without steps.
  """
  if weight < 0:
    raise UserError(f'loss.point_weight: {weight} is negative.')
  if kind == 'constant':
    return optax.constant_schedule(weight)
  if kind == 'warmup':
    if warmup_steps <= 0:
      raise UserError("loss.point_warmup_steps: loss.point_schedule='warmup' needs more than 0.")
    return optax.linear_schedule(0.0, weight, warmup_steps)
  if kind == 'cosine':
    return optax.cosine_decay_schedule(weight, total_steps)
  raise UserError(f'loss.point_schedule: unknown {kind!r}; choose one of constant, warmup, cosine.')
