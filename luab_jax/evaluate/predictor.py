"""Prediction for single images: labels, scores, points, and where the model looked.

    from luab_jax.evaluate.predictor import Predictor

    predictor = Predictor.from_run('runs/quickstart')
    for prediction in predictor([image]):  # uint8 [height, width, 3], RGB, of any size
      print(prediction['labels'][0], prediction['scores'][0], prediction['points'][0])

Everything runs on one device of the calling host, without any collective operation.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from luab_jax.data import examples, geometry, image_files
from luab_jax.data.dataset import DatasetSpec
from luab_jax.errors import UserError
from luab_jax.evaluate.steps import localization_maps
from luab_jax.models import Outputs, Variables, build_model, eval_variables
from luab_jax.models import predict as apply_model
from luab_jax.runtime.checkpoint import Checkpoints

BEST = 5  # labels per image
# Small: this many images of full size are in memory, and a single image is padded to as many.
_BATCH = 8


def restore_newest(workdir: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
  """(state, metadata) of a run's newest intact checkpoint; changes nothing in the folder.

  Raises UserError if there is none.
  """
  folder, restored = pathlib.Path(workdir) / 'checkpoints', None
  if folder.is_dir():
    checkpoints = Checkpoints(folder, keep=1, read_only=True)
    try:
      restored = checkpoints.restore()
    finally:
      checkpoints.close()
  if restored is None:
    raise UserError(f'{workdir} holds no checkpoint: train first, with --mode=train')
  if restored[0].get('ema_params') and 'ema_batch_stats' not in restored[0]:
    raise UserError(
      f'the newest checkpoint in {workdir} was written by an older version, which did not average '
      "BatchNorm's statistics: use that version, or train again"
    )
  return restored


class Predictor:
  """A model and its parameters on one device, compiled once for a fixed batch size.

  Attributes:
    data: the `data` section of its config.
    class_names: in the order of the logits.
    multi_label: whether an image may have several classes.
    point_per_class: whether each class has a point of its own, which needs `multi_label`.
    batch_size: images at a time.
    map_kind: kind of its maps, 'attention' (spatial head) or 'cam', see `steps.localization_maps`.
  """

  def __init__(
    self,
    model: nn.Module,
    variables: Variables,
    *,
    data: ConfigDict,
    class_names: Sequence[str],
    multi_label: bool,
    is_trace: bool = False,
    batch_size: int = _BATCH,
  ):
    """Takes a Flax model and its unreplicated variables (numpy); for the rest see the class."""
    self.data, self.class_names, self.multi_label = data, list(class_names), multi_label
    self.point_per_class = multi_label and not is_trace
    self.batch_size = batch_size
    self.map_kind = 'attention' if 'attention' in variables['params']['head'] else 'cam'
    self._variables = jax.device_put(variables, jax.local_devices()[0])

    @jax.jit
    def predict(variables: Variables, image: jax.Array, has: jax.Array) -> Outputs:
      output = apply_model(model, variables, image)
      logits = output['logits']
      shown = jnp.argmax(logits, -1)
      if self.point_per_class:
        # The most likely class with an icon, so that its map can be compared with the icon.
        has = has > 0
        shown = jnp.where(has.any(-1), jnp.argmax(jnp.where(has, logits, -jnp.inf), -1), shown)
      score = jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)
      weights = _map(output, shown, multi_label)
      return {'score': score, 'predicted': output['points'], 'weights': weights, 'map_class': shown}

    self._predict = predict

  @classmethod
  def from_run(cls, workdir: str | os.PathLike, *, batch_size: int = _BATCH) -> 'Predictor':
    """The model of a run's newest intact checkpoint, with averaged (EMA) parameters if it has any.

    Needs neither the config nor the data, and changes nothing: the run may be in progress.

    Args:
      workdir: folder of the run.
      batch_size: images at a time; fewer images cost as much.
    Raises:
      UserError: no run or no intact checkpoint there, or one of an older version.
    """
    state, metadata = restore_newest(workdir)
    variables = eval_variables(state)
    try:
      config = ConfigDict(metadata['config'])
      spec = DatasetSpec(**metadata['dataset'])
      model = build_model(
        config.model,
        num_classes=spec.num_classes,
        num_points=spec.num_points,
        multi_label=spec.multi_label,
      )
      data = config.data
      _ = data.image_size, data.eval_resize, data.resize_method, data.antialias
    except (KeyError, AttributeError, TypeError) as error:
      raise UserError(
        f'the newest checkpoint in {workdir} was written by an older version '
        f'({error}): use that version, or train again'
      ) from error
    return cls(
      model,
      variables,
      data=data,
      class_names=spec.class_names,
      multi_label=spec.multi_label,
      is_trace=spec.is_trace,
      batch_size=batch_size,
    )

  def outputs(self, image: np.ndarray, has: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The model's outputs for images of its input size.

    Args:
      image: u8[N,S,S,3], N at most `batch_size`.
      has: f32[N,K], 1 for recorded points; for multi-label data, the map is then that of the most
        likely class with a point. None: of the most likely class.
    Returns:
      Dict of numpy arrays: score f32[N,C]; predicted f32[N,K,2], (x, y) in fractions of the crop;
      weights f32[N,h,w], non-negative, the spatial head's map or the CAM; map_class i32[N], its
      class.
    """
    count = len(image)
    if has is None:
      has = np.zeros((count, len(self.class_names) if self.point_per_class else 1), np.float32)
    image, has = (_padded(array, self.batch_size) for array in (image, has))
    output = jax.device_get(self._predict(self._variables, image, has))
    return {name: value[:count] for name, value in output.items()}

  def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Predicts labels and points of images.

    Args:
      images: sequence of uint8[height, width, 3], RGB, upright; each of any size.
    Returns:
      For each a dict:
        labels: the five most likely classes (or all, if there are fewer), the most likely first;
        scores: their softmax, or sigmoid for multi-label models;
        points: [[x, y]], x to the right and y down, in pixels of the image: the click; for models
          of traces the whole trajectory, in ImageNet-AB ending with the click; for models of icons
          one for each of `labels`;
        points_fraction: the same in fractions of the image;
        map: f32[h,w], non-negative, the weight of each position in the view;
        map_kind: 'attention' or 'cam'; map_label: the class it belongs to;
        view: [x0, y0, x1, y1] in fractions of the image: the centre crop that the model saw.
      The linear head's points may lie outside the view.
    Raises:
      UserError: an image is not such an array, or is too large (`image_files.check_size`).
    """
    results = []
    for start in range(0, len(images), self.batch_size):
      part = images[start : start + self.batch_size]
      for number, image in enumerate(part, start):
        _check(image, number)
      views = [examples.centre_view(self.data, image) for image in part]
      output = self.outputs(np.stack([view[0] for view in views]))
      results += [
        self._result(image.shape, resized, window, {k: v[i] for k, v in output.items()})
        for i, (image, (_, resized, window)) in enumerate(zip(part, views, strict=True))
      ]
    return results

  def _result(
    self,
    shape: tuple[int, ...],
    resized: Any,
    window: geometry.Window,
    output: dict[str, np.ndarray],
  ) -> dict[str, Any]:
    best = np.argsort(-output['score'], kind='stable')[:BEST]
    points = output['predicted'][best] if self.point_per_class else output['predicted']
    points = geometry.points_in_image(points, resized, window).numpy()
    corners = geometry.points_in_image([[0.0, 0.0], [1.0, 1.0]], resized, window).numpy()
    return {
      'labels': [self.class_names[c] for c in best],
      'scores': output['score'][best].tolist(),
      'points': (points * [shape[1], shape[0]]).tolist(),
      'points_fraction': points.tolist(),
      'map': output['weights'],
      'map_kind': self.map_kind,
      'map_label': self.class_names[output['map_class']],
      'view': corners.ravel().tolist(),
    }


def _check(image: Any, number: int) -> None:
  shape: tuple[int, ...] = getattr(image, 'shape', ())
  dtype = getattr(image, 'dtype', None)
  if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or not min(shape):
    raise UserError(f'image {number} is {dtype} {shape}: give uint8 [height, width, 3], RGB')
  try:
    image_files.check_size(*shape[:2])
  except image_files.BadImage as error:
    raise UserError(f'image {number} cannot be used: {error}') from error


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
  return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _map(output: Outputs, shown: jax.Array, multi_label: bool) -> jax.Array:
  """f32[B,h,w], non-negative: where the model looked, for class `shown` i32[B]."""
  maps = localization_maps(output, shown, multi_label=multi_label)
  chosen = maps.get('attention', maps['cam'])
  if multi_label:
    chosen = jnp.take_along_axis(chosen, shown[:, None, None, None], axis=-1)
  # An attention map sums to 1; a CAM has no natural zero, so its minimum becomes 0.
  low = 0 if 'attention' in maps else chosen.min((1, 2, 3), keepdims=True)
  return (chosen - low)[..., 0]
