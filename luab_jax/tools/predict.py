"""`--mode=predict`: image files in, a JSON line and a picture for each out."""

import json
import pathlib

import numpy as np
from PIL import Image

from luab_jax.byproducts.archives import member_names
from luab_jax.data import image_files
from luab_jax.errors import UserError
from luab_jax.evaluate.predictor import MAX_RATIO, Predictor
from luab_jax.report import plots

EXIT_SKIPPED = 65  # EX_DATAERR of sysexits.h
_DRAWN = 640  # longer side of an image in its picture, in pixels
_AT_A_TIME = 8  # images; whole photographs are in memory meanwhile


def predict_files(workdir, paths):
  """Predicts image files with the newest checkpoint of a run.

  Writes WORKDIR/predictions/predictions.jsonl, in which each file has a line with what `Predictor`
  returns for it (but for the map) or why it was skipped, and a picture of each beside it; those of
  an earlier call are replaced. Says the same in short on stdout.

  Args:
    workdir: folder of the run.
    paths: files, and folders whose images are taken, also from the folders in them.
  Returns:
    Exit status: 0, or EXIT_SKIPPED where a file was skipped.
  Raises:
    UserError: no such file, no image, no run, or a folder that cannot be written.
    BrokenPipeError: nobody reads stdout any more; what was said so far is written.
  """
  files, others = list_files(paths)
  predictor = Predictor.from_run(workdir, batch_size=min(_AT_A_TIME, len(files)))
  folder = pathlib.Path(workdir) / 'predictions'
  skipped = 0
  try:
    folder.mkdir(exist_ok=True)
    for old in folder.glob('[0-9][0-9][0-9][0-9][0-9][0-9]_*.png'):
      old.unlink()
    with open(folder / 'predictions.jsonl', 'w', encoding='utf-8') as log:
      for start in range(0, len(files), _AT_A_TIME):
        part = files[start : start + _AT_A_TIME]
        for number, line in enumerate(_predict(predictor, part, start, folder), start):
          skipped += 'skipped' in line
          log.write(json.dumps(line) + '\n')
          print(_told(files[number], line, predictor.multi_label))
        log.flush()
  except BrokenPipeError:  # of stdout
    raise
  except OSError as error:
    raise UserError(f'cannot write to {folder}: {error}') from error
  rest = f', {others} files without the extension of an image left out' if others else ''
  print(
    f'{len(files) - skipped} predicted, {skipped} skipped{rest}: {folder}/predictions.jsonl',
    flush=True,
  )
  return EXIT_SKIPPED if skipped else 0


def list_files(paths):
  """(the image files that files and folders name, how many others lie in the folders).

  Files in folders come sorted, hidden ones are passed over. A file that is named is always taken.

  Raises:
    UserError: a path does not exist, or there is no image at all.
  """
  files, others = [], 0
  for path in map(pathlib.Path, paths):
    if not path.exists():
      raise UserError(f'there is no file or folder {member_names.escape(str(path))}')
    if not path.is_dir():
      files.append(path)
      continue
    for file in sorted(path.rglob('*')):
      if file.is_file() and not any(p.startswith('.') for p in file.relative_to(path).parts):
        if file.suffix.lower() in image_files.EXTENSIONS:
          files.append(file)
        else:
          others += 1
  if not files:
    raise UserError('no image to predict: name image files, or folders that hold some')
  return files, others


def _predict(predictor, files, start, folder):
  """The JSON lines of a few files; draws their pictures."""
  images, lines = [], []
  for file in files:
    try:
      image = image_files.read_upright(file.read_bytes())
      if max(image.shape[:2]) > MAX_RATIO * min(image.shape[:2]):
        raise image_files.BadImage(f'one side is more than {MAX_RATIO} times as long as the other')
      images.append(image)
      lines.append({'file': str(file), 'width': image.shape[1], 'height': image.shape[0]})
    except (OSError, image_files.BadImage) as error:
      lines.append({'file': str(file), 'skipped': str(error)})
  found = iter(zip(images, predictor(images), strict=True))
  for number, (file, line) in enumerate(zip(files, lines, strict=True), start):
    if 'skipped' in line:
      continue
    image, result = next(found)
    picture = f'{number:06d}_{file.stem[:100]}.png'
    (folder / picture).write_bytes(plots.png(_draw(image, result, predictor.multi_label)))
    weights = result.pop('map')
    line |= result | {'map_shape': list(weights.shape), 'picture': picture}
  return lines


def _draw(image, result, multi_label):
  """The picture of an image: the likeliest class, its point, and where the model looked."""
  small = Image.fromarray(image)
  small.thumbnail((_DRAWN, _DRAWN))
  x, y = np.clip(result['points_fraction'][0 if multi_label else -1], 0, 1)
  best = zip(result['labels'][:2], result['scores'], strict=False)
  return plots.overlay(
    np.asarray(small),
    result['map'],
    result['view'],
    [plots.Mark(x, y, False)],
    ', '.join(f'{label} {score:.2f}' for label, score in best),
  )


def _told(file, line, multi_label):
  name = member_names.escape(str(file))
  if 'skipped' in line:
    return f'{name}: skipped: {line["skipped"]}'
  best = ', '.join(
    f'{label} {score:.2f}' for label, score in zip(line['labels'], line['scores'], strict=True)
  )
  # The likeliest class's icon, or the end of the path, which is the click.
  x, y = line['points'][0 if multi_label else -1]
  return f'{name}: {best}; point ({x:.0f}, {y:.0f}) of {line["width"]} x {line["height"]} px'
