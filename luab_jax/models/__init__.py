"""Models: a backbone and a head, chosen by name.

Call: `model.apply(variables, image, train, keys, mutable=['batch_stats'])`
with image [B,H,W,3] (uint8 as decoded, or normalised floats) and one PRNG key per example, keys [B]
(`drop.example_keys`; None: no dropout or stochastic depth), returns a dict of
  logits f32[B,C];
  points f32[B,K,2], (x right, y down) in fractions of the image;
  features [B,h,w,D], the last feature grid, in the compute dtype;
  cam f32[B,h,w,C], the class activation maps;
  map_logits f32[B,h,w,K] and attention f32[B,h,w,K], their softmax over h, w (head 'spatial' only).
Parameters and BatchNorm statistics are float32.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.models.convnext import ConvNeXt
from luab_jax.models.heads import LinearHead, Outputs, SpatialHead
from luab_jax.models.resnet import ResNet
from luab_jax.models.tiny import PATCH_SIZE, TinyConv
from luab_jax.models.vit import VisionTransformer, normal_002
from luab_jax.runtime.parallel import AXIS

Params = Mapping[str, Any]  # a tree of arrays: nested dicts by module name
Variables = Mapping[str, Params]  # what `model.apply` takes: params, batch_stats

# name: (blocks in each stage, bottleneck blocks)
RESNETS = {
  'resnet18': ((2, 2, 2, 2), False),
  'resnet34': ((3, 4, 6, 3), False),
  'resnet50': ((3, 4, 6, 3), True),
  'resnet101': ((3, 4, 23, 3), True),
  'resnet152': ((3, 8, 36, 3), True),
}
# name: (width, depth, attention heads, patch size in pixels)
VITS = {
  'vit_ti16': (192, 12, 3, 16),
  'vit_s16': (384, 12, 6, 16),
  'vit_b16': (768, 12, 12, 16),
  'vit_l16': (1024, 24, 16, 16),
  'tiny_vit': (64, 4, 4, 4),
}
# name: blocks in each stage
CONVNEXTS = {'convnext_t': (3, 3, 9, 3), 'convnext_s': (3, 3, 27, 3)}
# name: channels of the stages that follow TinyConv's blocks, each of which halves the grid
TINY_CONVS: dict[str, tuple[int, ...]] = {'tiny_conv': (), 'tiny_deep': (96, 128)}
MODELS = (*RESNETS, *CONVNEXTS, *VITS, *TINY_CONVS)
HEADS = ('linear', 'spatial')
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

# Mean and standard deviation of pixels in [0, 1], RGB.
NORMALISATIONS = {
  # of ImageNet's training pixels (torchvision's values)
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  # to [-1, 1], as in augreg, big_vision and timm's ViTs converted from them
  'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def normalise(image: jax.Array, normalisation: str) -> jax.Array:
  """uint8 [..., 3] -> float32, (value / 255 - mean) / std per channel, see NORMALISATIONS."""
  mean, std = (jnp.array(values) for values in NORMALISATIONS[normalisation])
  return (image.astype(jnp.float32) / 255 - mean) / std


class LuabModel(nn.Module):
  """A backbone and a head; see the module's docstring.

  Attributes:
    backbone, head: Flax modules; the head gets what the backbone returns.
    normalisation: applied to uint8 images, a name in NORMALISATIONS.
    freeze_backbone: train only the head; the backbone stays in evaluation mode.
  """

  backbone: nn.Module
  head: nn.Module
  normalisation: str = 'imagenet'
  freeze_backbone: bool = False

  def __call__(self, image: jax.Array, train: bool, keys: jax.Array | None = None) -> Outputs:
    if image.dtype == jnp.uint8:
      image = normalise(image, self.normalisation)
    if self.freeze_backbone:
      features, pooled = jax.lax.stop_gradient(self.backbone(image, train=False))
    else:
      features, pooled = self.backbone(image, train, keys)
    return {**self.head(features, pooled, keys), 'features': features}


def predict(model: nn.Module, variables: Variables, image: jax.Array) -> Outputs:
  """Applies a model to image [B,H,W,3] in evaluation mode; see the module's docstring."""
  return cast(Outputs, model.apply(variables, image, train=False))


def eval_variables(state: Mapping[str, Any]) -> dict[str, Params]:
  """The Flax variables to evaluate, from a training state as a dict (see `train.state.TrainState`).

  If the state has averages (EMA), these are the averaged parameters and BatchNorm statistics.
  """
  average = 'ema_' if state['ema_params'] else ''
  names = 'params', 'batch_stats'
  return {name: state[average + name] or {} for name in names}  # Orbax restores {} as None


def _check_known(setting: str, value: str, known: Collection[str]) -> None:
  if value not in known:
    raise UserError(f'{setting}: unknown {value!r}; choose one of {", ".join(known)}.')


def check_model(model_config: ConfigDict) -> None:
  """Raises UserError if an option of a `model` section is unknown or out of range."""
  for key, known in (
    ('name', MODELS),
    ('head', HEADS),
    ('dtype', DTYPES),
    ('normalisation', NORMALISATIONS),
    ('vit_pool', ('token', 'gap')),
    ('vit_positions', ('learned', 'sincos2d')),
  ):
    _check_known(f'model.{key}', model_config[key], known)
  for key in ('drop_path', 'dropout'):
    if not 0 <= model_config[key] < 1:
      raise UserError(f'model.{key}={model_config[key]} is not a probability in [0, 1)')


def check_image_size(name: str, image_size: int) -> None:
  """Raises UserError if `data.image_size` is not a multiple of the patch size of model `name`."""
  patch_size = VITS[name][3] if name in VITS else 1
  if name in TINY_CONVS:
    patch_size = PATCH_SIZE * 2 ** len(TINY_CONVS[name])
  if image_size % patch_size:
    raise UserError(
      f'data.image_size={image_size}: {name} needs a whole number of patches; choose a multiple of '
      f'{patch_size}.'
    )


def build_model(
  model_config: ConfigDict, *, num_classes: int, num_points: int, multi_label: bool
) -> LuabModel:
  """Returns the Flax module for the `model` section of a config.

  Args:
    model_config: the `model` section, see configs/default.py.
    num_classes: C.
    num_points: K.
    multi_label: an image may have several classes. The spatial head then gives each class its own
      map, so K must equal C.

  Raises:
    UserError: an option is unknown or out of range, or the head does not fit the points.
  """
  check_model(model_config)
  backbone = _backbone(model_config)
  rest = model_config.normalisation, model_config.freeze_backbone
  init = None if isinstance(backbone, ResNet | TinyConv) else normal_002
  if model_config.head == 'linear':
    return LuabModel(
      backbone, LinearHead(num_classes, num_points, init, model_config.dropout), *rest
    )
  if multi_label and num_points != num_classes:
    raise UserError(
      f"model.head: 'spatial' on a multi-label data set needs one point per class ({num_classes}), "
      f'but the data have {num_points}; choose model.head=linear or data.byproduct=click.'
    )
  spatial = SpatialHead(num_classes, num_points, multi_label, init, model_config.dropout)
  return LuabModel(backbone, spatial, *rest)


def _backbone(model_config: ConfigDict) -> nn.Module:
  name, dtype = model_config.name, DTYPES[model_config.dtype]
  axis_name = AXIS if model_config.sync_batch_norm else None
  deep = {'dtype': dtype, 'drop_path': model_config.drop_path, 'remat': model_config.remat}
  if name in RESNETS:
    stage_sizes, bottleneck = RESNETS[name]
    return ResNet(stage_sizes, bottleneck, axis_name=axis_name, **deep)
  if name in CONVNEXTS:
    return ConvNeXt(CONVNEXTS[name], **deep)
  if name in VITS:
    pool, positions = model_config.vit_pool, model_config.vit_positions
    return VisionTransformer(*VITS[name], pool=pool, positions=positions, **deep)
  return TinyConv(stage_widths=TINY_CONVS[name], dtype=dtype, axis_name=axis_name)
