"""The outcomes of the runs of a study: metrics of their summaries, resampled over images."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.evaluate.outcomes import FILE
from luab_jax.tools.study import intervals, metrics
from luab_jax.tools.study.intervals import Sample


class Outcomes:
  """The metrics of all runs.

  Attributes:
    runs: {folder: {metric: value}}.
  """

  def __init__(
    self,
    configs: Mapping[str, ConfigDict],
    summaries: Mapping[str, dict[str, Any]],
    workdir: pathlib.Path,
    unit: str,
  ):
    """Reads the outcomes of all images and resamples them.

    Args:
      configs: {folder: config} of the runs.
      summaries: {folder: content of summary.json}.
      workdir: folder of the study.
      unit: `study.unit`.
    Raises:
      UserError: a file cannot be read, runs were tested on different images, or `unit` does not
        match a file name.
    """
    self.runs = {
      folder: metrics.summary_metrics(
        summaries[folder], points_trained=_predicts_points(configs[folder])
      )
      for folder in configs
    }
    self._examples = {
      split: result.get('examples', 0)
      for summary in summaries.values()
      for split, result in summary['results'].items()
    }
    # {(folder, metric): (f64[DRAWS], images, units)}
    self._draws: dict[tuple[str, str], tuple[np.ndarray, int, int]] = {}
    files = {folder: _load(workdir / folder / FILE) for folder in configs}
    for split in sorted({metrics.split_and_name(name)[0] for f in files.values() for name in f}):
      self._resample(split, files, unit)

  def _resample(self, split: str, files: Mapping[str, dict[str, np.ndarray]], unit: str) -> None:
    keys = [
      (folder, metric)
      for folder, arrays in files.items()
      for metric in arrays
      if metric in self.runs[folder] and metrics.split_and_name(metric)[0] == split
    ]
    if not keys:
      return
    first = keys[0][0]
    names = files[first][f'{split}/file_name']
    for folder in {folder for folder, _ in keys}:
      if not np.array_equal(files[folder][f'{split}/file_name'], names):
        raise UserError(
          f'{first} and {folder} were evaluated on different images of {split}: their '
          f'{FILE} do not match'
        )
    units = _units(names, unit, split)
    values = np.stack([files[folder][metric] for folder, metric in keys])
    draws = intervals.resample(values, units)
    for key, row, column in zip(keys, values, draws.T, strict=True):
      known = np.isfinite(row)
      self._draws[key] = column, int(known.sum()), len(np.unique(units[known]))

  def samples(self, folders: Sequence[str]) -> dict[str, Sample]:
    """{metric: Sample} of the runs of an arm, one for each seed."""
    runs = [self.runs[folder] for folder in folders]
    return {
      metric: self._sample(folders, metric)
      for metric in metrics.sort(name for run in runs for name in run)
    }

  def _sample(self, folders: Sequence[str], metric: str) -> Sample:
    means = np.array([self.runs[folder].get(metric, np.nan) for folder in folders])
    draws = [self._draws.get((folder, metric)) for folder in folders]
    known = [draw for draw in draws if draw is not None]
    if len(known) < len(folders):
      return Sample(means, images=self._examples.get(metrics.split_and_name(metric)[0], 0))
    return Sample(
      means,
      np.stack([draw for draw, _, _ in known], axis=1),
      min(images for _, images, _ in known),
      min(units for _, _, units in known),
    )


def _predicts_points(config: ConfigDict) -> bool:
  """False if the point outputs are not trained: those of a linear head without point loss."""
  return config.model.head != 'linear' or config.loss.point_weight > 0


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file}
  except (OSError, ValueError, KeyError) as error:
    raise UserError(f'{path} cannot be read ({error}): delete it, and start again') from error


def _units(names: np.ndarray, unit: str, split: str) -> np.ndarray:
  """i64[N]: which unit of the bootstrap each image belongs to."""
  if not unit:
    return np.arange(len(names))
  found = []
  for name in (n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist()):
    match = re.search(unit, name)
    if not match:
      raise UserError(f"study.unit='{unit}' does not match '{name}' of {split}: change one of them")
    found.append(match[1])
  return np.unique(found, return_inverse=True)[1]
