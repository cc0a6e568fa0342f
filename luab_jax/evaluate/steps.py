"""Evaluation steps, seen from a single device, and the sums that training shares with them.

Like the training step, these are SPMD functions to be mapped by `parallel.map_step`: they see one
device's shard of the batch and reduce over `parallel.AXIS` what has to be global.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from luab_jax.data.dataset import Batch, DatasetSpec
from luab_jax.evaluate import metrics
from luab_jax.models import Outputs, Variables, losses, map_losses, normalise, predict
from luab_jax.models.losses import Sums
from luab_jax.runtime.parallel import AXIS

EvalStep = Callable[[Variables, Batch], tuple[Sums, dict[str, jax.Array], dict[str, jax.Array]]]
LocalizationStep = Callable[[Variables, Batch], dict[str, Any]]
_NumberAndFooled = tuple[jax.Array, jax.Array]  # what make_foreground_step's loop carries


def loss_and_metric_sums(
  output: Outputs, batch: Batch, spec: DatasetSpec, loss: ConfigDict
) -> Sums:
  """The (sum, count) pairs of one device's shard of a batch: the losses and all metrics.

  Args:
    output: the model's outputs.
    batch: see the batch contract in `pipeline`.
    spec: of the data set.
    loss: `config.loss`; with a map loss, the result includes `map_loss`.
  """
  sums: Sums = {
    'class_loss': losses.classification_sum(
      output['logits'],
      batch['label'],
      batch['example_mask'],
      multi_label=spec.multi_label,
      label_smoothing=loss.label_smoothing,
    ),
    'point_loss': losses.point_sum(
      output['points'],
      batch['point'],
      metrics.valid_points(batch),
      kind=loss.point_loss,
      beta=loss.smooth_l1_beta,
    ),
    **metrics.batch_sums(output, batch, multi_label=spec.multi_label),
  }
  if loss.map_loss != 'none':
    maps = map_losses.map_logits(output, batch['label'], multi_label=spec.multi_label)
    sums['map_loss'] = map_losses.map_sum(
      maps, batch['point'], metrics.valid_points(batch), loss, batch.get('heatmap')
    )
  return sums


def make_eval_step(model: nn.Module, spec: DatasetSpec, loss: ConfigDict) -> EvalStep:
  """Builds `step(variables, batch) -> (sums, scores, outcomes)` for one device.

  `sums` are global. `scores` is empty except for multi-label data sets: the logits, labels and
  example masks of the whole global batch ([devices, B / devices, …]) and, if the batch has them,
  the groups of the labels, from which mAP is computed exactly. `outcomes` are those of the device's
  own examples, see `metrics.example_outcomes`.
  """

  def step(
    variables: Variables, batch: Batch
  ) -> tuple[Sums, dict[str, jax.Array], dict[str, jax.Array]]:
    output = predict(model, variables, batch['image'])
    sums = jax.lax.psum(loss_and_metric_sums(output, batch, spec, loss), AXIS)
    scores: dict[str, jax.Array] = {}
    if spec.multi_label:
      scores = {
        'score': output['logits'],
        'label': batch['label'],
        'mask': batch['example_mask'],
        **{name: batch[name] for name in ('size_group', 'icon_group') if name in batch},
      }
      scores = jax.lax.all_gather(scores, AXIS)
    return sums, scores, metrics.example_outcomes(output, batch, multi_label=spec.multi_label)

  return step


def make_localization_step(model: nn.Module, spec: DatasetSpec) -> LocalizationStep:
  """Builds `step(variables, batch) -> outputs` for one device, the inputs of localisation.

  `outputs` are of the device's own examples: `maps`, see `localization_maps`, and, for single-label
  data sets, `correct` bool[B], whether the predicted class is the label.
  """

  def step(variables: Variables, batch: Batch) -> dict[str, Any]:
    output = predict(model, variables, batch['image'])
    maps = localization_maps(output, batch['label'], multi_label=spec.multi_label)
    if spec.multi_label:
      return {'maps': maps}
    return {'maps': maps, 'correct': output['logits'].argmax(-1) == batch['label']}

  return step


def make_label_set_step(model: nn.Module) -> Callable[[Variables, Batch], Sums]:
  """Builds `step(variables, batch) -> sums` for one device and `pipeline.label_set_batches`.

  The sums are global: top1 and top5 of `metrics.label_set_sums`.
  """

  def step(variables: Variables, batch: Batch) -> Sums:
    output = predict(model, variables, batch['image'])
    return jax.lax.psum(metrics.label_set_sums(output['logits'], batch), AXIS)

  return step


def make_foreground_step(model: Any) -> Callable[[tuple[Variables, Batch], Batch], jax.Array]:
  """Builds `step((variables, backgrounds), foreground) -> bool` for one device.

  The result is whether the model classifies a foreground correctly on every background: the
  Backgrounds Challenge (Xiao et al. 2020, arXiv:2006.09994, section 4). The step ends at the first
  batch of backgrounds that fools the model, on all devices at once.

  `backgrounds` holds the device's part of N batches: image u8[N,b,S,S,3], example_mask f32[N,b].
  `foreground` is the same on all devices: image u8[S,S,3], mask f32[S,S,1], valid_labels bool[C].
  """

  def step(fixed: tuple[Variables, Batch], foreground: Batch) -> jax.Array:
    variables, backgrounds = fixed
    mask = foreground['mask']

    def keep_going(carry: _NumberAndFooled) -> jax.Array:
      number, fooled = carry
      return (number < backgrounds['image'].shape[0]) & (fooled == 0)

    def next_batch(carry: _NumberAndFooled) -> _NumberAndFooled:
      number, _ = carry
      background, object_image = (
        normalise(image, model.normalisation)
        for image in (backgrounds['image'][number], foreground['image'])
      )
      image = background * (1 - mask) + object_image * mask
      logits = predict(model, variables, image)['logits']
      wrong = ~foreground['valid_labels'][logits.argmax(-1)] * backgrounds['example_mask'][number]
      return number + 1, jax.lax.psum(wrong.sum(), AXIS)

    _, fooled = jax.lax.while_loop(keep_going, next_batch, (jnp.int32(0), jnp.float32(0)))
    return fooled == 0

  return step


def localization_maps(
  output: Outputs, label: jax.Array, *, multi_label: bool
) -> dict[str, jax.Array]:
  """Maps of where a model locates the labelled class, on its last feature grid.

  Args:
    output: the model's outputs.
    label: i32[B]; not used with `multi_label`.
    multi_label: return the maps of all classes instead of the label's.

  Returns:
    Dict of f32[B,h,w,1], with `multi_label` f32[B,h,w,C]:
      cam: the class activation map, see heads.py. With the linear head on a convolutional net, its
        mean over the grid is the logit without the bias. A ViT's linear head may read the class
        token; then the same kernel on the patch tokens is an approximation. With the spatial head,
        the attention-weighted mean of the map is the logit without the bias.
      attention (spatial head only): the attention map; for a trace, the mean of its maps.
  """
  maps = {'cam': output['cam'] if multi_label else map_losses.class_map(output['cam'], label)}
  if 'attention' in output:
    attention = output['attention']
    maps['attention'] = attention if multi_label else attention.mean(-1, keepdims=True)
  return maps
