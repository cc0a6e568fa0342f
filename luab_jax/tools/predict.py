"""`--mode=predict`: predictions for image files, as a page, tables and overlay images."""

import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from luab_jax.byproducts.archives import member_names
from luab_jax.data import image_files
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import Predictor
from luab_jax.report import fonts, plots
from luab_jax.tools import gallery, image_folders, output_folder
from luab_jax.tools.own_data.problems import pluralize

EXIT_SKIPPED = 65  # EX_DATAERR of sysexits.h
_OVERLAY_SIZE = 640  # longer side in pixels
_BATCH_SIZE = 8  # full-size images in memory at a time


def predict_files(workdir: str | pathlib.Path, paths: Iterable[str]) -> int:
  """Predicts image files with the newest checkpoint of a run.

  Writes to WORKDIR/predictions: predictions.jsonl with one line per file (what `Predictor` returns
  except the map, or why the file was skipped), an overlay of each image, index.html with all
  overlays, and predictions.csv with the top class of each image. The output of an earlier call is
  replaced once all files are complete. Prints a short version of each line.

  Args:
    workdir: folder of the run.
    paths: image files, and folders that are searched recursively.
  Returns:
    Exit status: 0, or EXIT_SKIPPED if a file was skipped.
  Raises:
    UserError: no such file, no image, no run, images in WORKDIR/predictions, or a folder that
      cannot be written.
    BrokenPipeError: stdout was closed; the lines so far are in WORKDIR/predictions/unfinished.
  """
  folder = pathlib.Path(workdir) / 'predictions'
  paths = list(paths)
  output_folder.refuse_overlap(folder, map(pathlib.Path, paths))
  files, others = list_files(paths)
  predictor = Predictor.from_run(workdir, batch_size=min(_BATCH_SIZE, len(files)))
  try:
    with output_folder.replacing(folder, 'predict') as unfinished:
      skipped = _write_predictions(
        predictor, files, unfinished, pathlib.Path(workdir).resolve().name
      )
  except BrokenPipeError:  # of stdout
    raise
  except OSError as error:
    raise UserError(f'cannot write to {folder}: {error}') from error
  files_ignored = pluralize(others, 'file')
  rest = f', {others} {files_ignored} without an image extension ignored' if others else ''
  print(
    f'{len(files) - skipped} predicted, {skipped} skipped{rest}: open {folder}/index.html '
    '(as tables: predictions.csv, predictions.jsonl)',
    flush=True,
  )
  return EXIT_SKIPPED if skipped else 0


def list_files(paths: Iterable[str]) -> tuple[list[pathlib.Path], int]:
  """Returns (image files, number of other files in the folders).

  The files of a folder are sorted, hidden ones are left out, and links to folders are followed. A
  file given by name is always included.

  Raises:
    UserError: a path does not exist, or there is no image at all.
  """
  files, others = [], 0
  for path in map(pathlib.Path, paths):
    if not os.path.exists(path):  # also for a name that is too long
      raise UserError(f'there is no file or folder {member_names.escape(str(path))}')
    if not path.is_dir():
      files.append(path)
      continue
    for file in image_folders.iter_files(path, _report_folder):
      if file.is_file() and not any(p.startswith('.') for p in file.relative_to(path).parts):
        if file.suffix.lower() in image_files.EXTENSIONS:
          files.append(file)
        else:
          others += 1
  if not files:
    raise UserError('no image to predict: name image files, or folders with images')
  return files, others


def _report_folder(path: pathlib.Path, reason: str) -> None:
  print(f'{member_names.escape(str(path))}: skipped: {reason}', file=sys.stderr)


def _write_predictions(
  predictor: Predictor, files: Sequence[pathlib.Path], folder: pathlib.Path, run: str
) -> int:
  """Writes and prints the predictions of files, and returns how many were skipped."""
  lines = []
  with open(folder / 'predictions.jsonl', 'w', encoding='utf-8') as log:
    for start in range(0, len(files), _BATCH_SIZE):
      batch = files[start : start + _BATCH_SIZE]
      for file, line in zip(batch, _predict(predictor, batch, start, folder), strict=True):
        lines.append(line)
        log.write(json.dumps(line) + '\n')
        print(_format_line(file, line, predictor.point_per_class))
      log.flush()
  gallery.write_table(lines, folder, predictor.point_per_class)
  gallery.write_gallery(lines, folder, run, predictor.point_per_class)
  return sum('skipped' in line for line in lines)


def _predict(
  predictor: Predictor, files: Sequence[pathlib.Path], start: int, folder: pathlib.Path
) -> list[dict[str, Any]]:
  """The JSON lines of a batch of files, numbered from `start`; draws their overlays."""
  images, lines = [], []
  for file in files:
    try:
      image = image_files.read_upright(file.read_bytes())
      images.append(image)
      lines.append({'file': str(file), 'width': image.shape[1], 'height': image.shape[0]})
    except (OSError, image_files.BadImage) as error:
      lines.append({'file': str(file), 'skipped': str(error)})
  predicted = iter(zip(images, predictor(images), strict=True))
  for number, (file, line) in enumerate(zip(files, lines, strict=True), start):
    if 'skipped' not in line:
      image, result = next(predicted)
      stem = file.stem.encode(errors='replace')[:100].decode(errors='ignore')
      overlay = f'{number:06d}_{stem}.png'
      figure = _draw(image, result, predictor.point_per_class)
      fonts.use_installed_fonts(figure)
      figure.savefig(folder / overlay)
      weights = result.pop('map')
      line |= result | {'map_shape': list(weights.shape), 'overlay': overlay}
  return lines


def _draw(image: np.ndarray, result: dict[str, Any], point_per_class: bool) -> Figure:
  """The image with the top two classes, the point of the first one and the map."""
  small = Image.fromarray(image)
  small.thumbnail((_OVERLAY_SIZE, _OVERLAY_SIZE))
  x, y = np.clip(result['points_fraction'][0 if point_per_class else -1], 0, 1)
  best = zip(result['labels'][:2], result['scores'], strict=False)
  return plots.overlay(
    np.asarray(small),
    result['map'],
    result['view'],
    [plots.Mark(x, y, recorded=False)],
    ', '.join(f'{label} {score:.2f}' for label, score in best),
  )


def _format_line(file: pathlib.Path, line: dict[str, Any], point_per_class: bool) -> str:
  name = member_names.escape(str(file))
  if 'skipped' in line:
    return f'{name}: skipped: {line["skipped"]}'
  best = ', '.join(
    f'{label} {score:.2f}' for label, score in zip(line['labels'], line['scores'], strict=True)
  )
  x, y = gallery.best_point(line, point_per_class)
  return f'{name}: {best}; point ({x:.0f}, {y:.0f}) of {line["width"]} x {line["height"]} px'
