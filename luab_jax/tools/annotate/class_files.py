"""Reads the tables of a new study: classes, candidates, and images with known answers."""

import pathlib
from collections.abc import Collection, Sequence

from luab_jax.byproducts.archives import member_names
from luab_jax.errors import UserError
from luab_jax.tools.annotate.study import Class
from luab_jax.tools.own_data import table

_EXAMPLES = 6  # shown beside a definition


def read_classes(path: pathlib.Path) -> list[Class]:
  """Reads classes from a CSV with the columns name[,definition][,examples][,group].

  `examples` names files beside the CSV, separated by semicolons; the names are not resolved.

  Raises:
    UserError: it cannot be read, names no class, or one that is invalid or occurs twice.
  """
  classes: dict[str, Class] = {}
  for row in table.read(path, ['name'], 'definition', 'examples', 'group'):
    name = row.cells['name']
    if problem := row.problem or check_class(name):
      raise UserError(f'{row.where}: {problem}')
    if name in classes:
      raise UserError(f'{row.where}: the class {name!r} occurs twice: remove one of them')
    examples = [e.strip() for e in row.cells.get('examples', '').split(';') if e.strip()]
    if len(examples) > _EXAMPLES:
      raise UserError(f'{row.where}: {len(examples)} examples, at most {_EXAMPLES} are shown')
    classes[name] = Class(
      name, row.cells.get('definition', ''), examples, row.cells.get('group', '')
    )
  if not classes:
    raise UserError(f'{path} names no class: add a line for each below the header')
  return list(classes.values())


def check_class(name: str) -> str:
  """Returns '' or why this cannot be a class name, which becomes a folder of the release."""
  if not name:
    return 'name is empty'
  if '/' in name or '\\' in name or name.startswith('.'):
    return f'the class {name!r} contains a slash or begins with a dot'
  problem = member_names.normalize(name)[1] or member_names.class_problem(name)
  return f'the class {name!r} cannot be used: {problem}' if problem else ''


def read_candidates(path: pathlib.Path, images: Collection[str]) -> dict[str, list[str]]:
  """Reads {class: names of its images} from a CSV with the columns file,class.

  Raises:
    UserError: it cannot be read, names a file that is not an image of the folder, or one twice.
  """
  candidates: dict[str, list[str]] = {}
  seen = set()
  for row in table.read(path, ['file', 'class']):
    name, label = row.cells['file'], row.cells['class']
    _check_file(row, name, images)
    if problem := check_class(label):
      raise UserError(f'{row.where}: {problem}')
    if name in seen:
      raise UserError(f'{row.where}: {name} occurs twice: list it for one class only')
    seen.add(name)
    candidates.setdefault(label, []).append(name)
  return candidates


def read_gold(
  path: pathlib.Path, images: Collection[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
  """Reads {class: {image: 1 or 0}} from a CSV with the columns file,class[,present].

  Raises:
    UserError: it cannot be read, names a file or a class that the study lacks, or holds a value
      other than 1 and 0.
  """
  gold: dict[str, dict[str, int]] = {}
  for row in table.read(path, ['file', 'class'], 'present'):
    name, label, present = row.cells['file'], row.cells['class'], row.cells.get('present') or '1'
    _check_file(row, name, images)
    if label not in classes:
      raise UserError(f'{row.where}: the study has no class {label!r}')
    if present not in ('0', '1'):
      raise UserError(f'{row.where}: present is {present!r:.20}, not 1 or 0')
    if name in gold.setdefault(label, {}):
      raise UserError(f'{row.where}: {name} occurs twice for {label!r}')
    gold[label][name] = int(present)
  return gold


def _check_file(row: table.Row, name: str, images: Collection[str]) -> None:
  if row.problem:
    raise UserError(f'{row.where}: {row.problem}')
  if name not in images:
    raise UserError(
      f'{row.where}: {name!r:.100} is not an image below --images: write its path from there'
    )
