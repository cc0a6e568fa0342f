"""How well a model's maps agree with people's heat maps (ClickMe).

As in harmonization/evaluation of Fel et al. 2022 (arXiv:2211.04533,
github.com/serre-lab/Harmonization): the whole image is squashed to the model's input, and the score
is Spearman's rank correlation between the model's map and the human map (`heatmaps.smoothed`) over
all pixels, averaged over images, also as a fraction of the human ceiling. Tied pixels share their
mean rank, as in scipy. An image with a constant map has no correlation and does not count (in their
code it makes the mean NaN).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from luab_jax.data.dataset import Batch
from luab_jax.evaluate.steps import localization_maps
from luab_jax.models import Outputs, Variables, normalise, predict
from luab_jax.models.losses import Sums
from luab_jax.runtime.parallel import AXIS

HUMAN_CEILING = 0.6575315343478081  # HUMAN_SPEARMAN_CEILING of harmonization/evaluation


def make_alignment_step(model: Any) -> Callable[[Variables, Batch], Sums]:
  """Builds `step(variables, batch) -> sums` for one device and a batch of whole views.

  The sums are global: {'spearman_KIND': (sum, count)} over images, for the kinds

    saliency: the gradient of the label's logit with respect to the normalised pixels, its largest
      absolute value over the channels. As in Harmonization, except that there it is the gradient of
      whatever the network outputs.
    cam, attention: the maps of `localization_maps`, bilinearly resized to the input (ours).
  """

  def step(variables: Variables, batch: Batch) -> Sums:
    def logit(image: jax.Array) -> tuple[jax.Array, Outputs]:
      output = predict(model, variables, image)
      return jnp.take_along_axis(output['logits'], batch['label'][:, None], 1).sum(), output

    image = normalise(batch['image'], model.normalisation)
    gradient, output = jax.grad(logit, has_aux=True)(image)
    maps = {'saliency': jnp.abs(gradient).max(-1)}
    for kind, grid in localization_maps(output, batch['label'], multi_label=False).items():
      maps[kind] = jax.image.resize(grid[..., 0], image.shape[:3], 'linear')
    sums: Sums = {}
    for kind, found in maps.items():
      correlation = spearman(found, batch['human_map'])
      counts = batch['example_mask'] * jnp.isfinite(correlation)
      sums[f'spearman_{kind}'] = jnp.nansum(correlation * counts), counts.sum()
    return jax.lax.psum(sums, AXIS)

  return step


def spearman(a: jax.Array, b: jax.Array) -> jax.Array:
  """f32[B]: rank correlation between the maps a and b, both f32[B,h,w]; NaN if one is constant."""
  a, b = (jax.vmap(_ranks)(x.reshape(len(x), -1)) for x in (a, b))
  return (a * b).sum(1) / jnp.sqrt((a * a).sum(1) * (b * b).sum(1))


def _ranks(values: jax.Array) -> jax.Array:
  """f32[n]: ranks of f32[n] as fractions, minus their mean; tied values share their mean rank."""
  ordered = jnp.sort(values)
  below, up_to = (jnp.searchsorted(ordered, values, side=side) for side in ('left', 'right'))
  return (below + up_to) / (2 * len(values)) - 0.5


def as_share(metrics: dict[str, float]) -> dict[str, float]:
  """{'alignment_KIND': spearman_KIND as a fraction of the human ceiling}, the paper's score."""
  return {
    name.replace('spearman', 'alignment'): value / HUMAN_CEILING for name, value in metrics.items()
  }
