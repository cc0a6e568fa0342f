"""The predictions of `--mode=predict` as an HTML page and as a CSV table."""

import csv
import pathlib
import urllib.parse
from collections.abc import Sequence
from typing import Any

from luab_jax.byproducts.archives import member_names
from luab_jax.report import html

_COLUMNS = ('file', 'label', 'score', 'x', 'y', 'width', 'height', 'overlay', 'skipped')


def best_point(line: dict[str, Any], point_per_class: bool) -> tuple[float, float]:
  """Returns a prediction's (x, y) in pixels: the top class's icon, the click, or the path's end."""
  x, y = line['points'][0 if point_per_class else -1]
  return x, y


def write_table(
  lines: Sequence[dict[str, Any]], folder: pathlib.Path, point_per_class: bool
) -> None:
  """Writes predictions.csv: one row per file with its top class; x and y in pixels of the image.

  Args:
    lines: the lines of predictions.jsonl, decoded.
    folder: where to write the file.
    point_per_class: as in `DatasetSpec`.
  """
  path = folder / 'predictions.csv'
  # Names that are not UTF-8 keep their bytes.
  with open(path, 'w', encoding='utf-8', errors='surrogateescape', newline='') as file:
    writer = csv.DictWriter(file, _COLUMNS, extrasaction='ignore')
    writer.writeheader()
    for line in lines:
      row = dict(line)
      if 'skipped' not in line:
        x, y = best_point(line, point_per_class)
        best = line['labels'][0], f'{line["scores"][0]:.6f}', f'{x:.2f}', f'{y:.2f}'
        row |= dict(zip(('label', 'score', 'x', 'y'), best, strict=True))
      writer.writerow(row)


def write_gallery(
  lines: Sequence[dict[str, Any]], folder: pathlib.Path, run: str, point_per_class: bool
) -> None:
  """Writes index.html: the overlays with their predictions, and the skipped files.

  Args:
    lines: the lines of predictions.jsonl, decoded.
    folder: the folder of the overlays.
    run: name of the run.
    point_per_class: as in `DatasetSpec`.
  """
  images, skipped = [], []
  for line in lines:
    name = member_names.escape(line['file'])
    if 'skipped' in line:
      skipped.append([name, line['skipped']])
      continue
    x, y = best_point(line, point_per_class)
    best = ', '.join(
      f'{label} {score:.0%}' for label, score in zip(line['labels'], line['scores'], strict=True)
    )
    alt = (
      f'{name} with predicted point of {line["labels"][0]} at ({x:.0f}, {y:.0f}) px, and its map'
    )
    file = urllib.parse.quote(line['overlay'])
    images.append(html.Image(b'', '', alt, f'{name}: {best}', file=file))
  text = 'Brighter means more weight; the dashed frame is the part of the image the model saw.'
  legend = [('cross', f'predicted point{" of the top class" * point_per_class}')]
  sections = [html.Section('Predictions', [text], images=images, layout='wide', legend=legend)]
  if skipped:
    table = html.Table(['file', 'reason'], skipped)
    sections.append(html.Section('Skipped files', [], tables=[table]))
  html.write(
    folder / 'index.html',
    title=f'Predictions: {run}',
    subtitle=f'{len(images):,} predicted, {len(skipped):,} skipped. predictions.csv and '
    'predictions.jsonl are next to this page.',
    sections=sections,
  )
