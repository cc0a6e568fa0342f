"""Where the networks of a study look: their maps for the same few images."""

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict

from luab_jax.data.dataset import DatasetSpec, dataset_spec
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import captions, html, plots, samples
from luab_jax.tools.study import plan

_IMAGES = 4
_BATCH = 8


def draw_looks(config: ConfigDict, workdir: pathlib.Path, split: str) -> list[list[html.Image]]:
  """Draws images of a split and each arm's map of them, from the checkpoints of the first seed.

  Args:
    config: the config of the study.
    workdir: folder of the study.
    split: name in `data.eval_splits`.
  Returns:
    A row for each image: the image, and the map of each arm; [] without checkpoints, as when run
    folders were copied without them.
  """
  spec, found = dataset_spec(config.data), {}
  for arm in plan.arms(config):
    folder = workdir / plan.run_folder(arm, config.seed)
    if plan.ARMS[arm].control == 'none' and (folder / 'checkpoints').is_dir():
      try:
        predictor = Predictor.from_run(folder, batch_size=_BATCH)
      except UserError:  # a damaged checkpoint; the run's metrics are still there
        continue
      predictor.data = config.data
      found[arm] = samples.predictions(predictor, spec, config.data.eval_splits[split], _IMAGES)
  number = min((len(predictions.image) for predictions in found.values()), default=0)
  return [list(_draw(found, spec, i)) for i in range(number)]


def _draw(
  found: Mapping[str, samples.Predictions], spec: DatasetSpec, i: int
) -> Iterator[html.Image]:
  """Image `i` of the predictions of each arm, and the map of each arm."""
  first = next(iter(found.values()))
  marks = captions.marks(first.point[i], spec)
  known = np.isfinite(first.box[i]).all(-1)
  truth = captions.format_classes(spec, first.label[i])
  yield html.image(
    plots.image(first.image[i], marks, boxes=first.box[i][known]),
    f'Evaluation image of {truth} with {captions.describe_marks(marks)}',
    truth,
  )
  for arm, predictions in found.items():
    score = predictions.score[i]
    best = int(score.argmax())
    wrong = not (first.label[i][best] if spec.multi_label else first.label[i] == best)
    boxes = predictions.box[i][np.isfinite(predictions.box[i]).all(-1)]
    caption = f'{arm}: {spec.class_names[best]} {score[best]:.0%}'
    yield html.image(
      plots.map_alone(predictions.image[i], predictions.weights[i], boxes=boxes),
      f'Map of {caption}',
      caption,
      wrong=bool(wrong),
    )
