"""Plans a new study before any image is decoded: its classes, candidates and gold images."""

import argparse
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from luab_jax.errors import UserError
from luab_jax.tools.annotate import class_files, coco_pages
from luab_jax.tools.annotate.study import Class
from luab_jax.tools.own_data.problems import Problems

_MOST_ICONS = 1000  # limit of events.Class
_ICONS_OF_A_PAGE = 10  # if the table names no groups


class Plan(NamedTuple):
  """What to show; images by their paths below the folder of images."""

  classes: list[Class]  # examples: names of files beside the table of classes
  groups: list[str]  # icons: their pages, in order
  candidates: dict[str, list[str]]  # {class: images}; icons: one entry, whose key is ''
  gold: dict[str, dict[str, int]]  # {class: {image: 1 or 0}}

  def images(self) -> list[str]:
    """The images that are needed, sorted."""
    known = {name for images in self.gold.values() for name in images}
    return sorted(known.union(*self.candidates.values()))

  def without(self, unreadable: Collection[str]) -> 'Plan':
    """The plan without images that cannot be read."""
    candidates = {
      label: [name for name in names if name not in unreadable]
      for label, names in self.candidates.items()
    }
    gold = {
      label: {name: present for name, present in images.items() if name not in unreadable}
      for label, images in self.gold.items()
    }
    return self._replace(candidates=candidates, gold=gold)


def plan(args: argparse.Namespace, found: Sequence[str], problems: Problems) -> Plan:
  """Plans a study.

  Args:
    args: the arguments of `init`.
    found: images below --images.
    problems: counts what is left out.

  Raises:
    UserError: a table cannot be used, or no image belongs to a class.
  """
  return (_plan_grid if args.task == 'grid' else _plan_icons)(args, found, problems)


def _plan_grid(args: argparse.Namespace, found: Sequence[str], problems: Problems) -> Plan:
  if args.candidates:
    candidates = class_files.read_candidates(args.candidates, found)
  else:
    candidates = _class_folders(args.images, found, problems)
  classes = _described(args.classes, candidates)
  gold = class_files.read_gold(args.gold, found, sorted(candidates)) if args.gold else {}
  return Plan(classes, [], candidates, gold)


def _described(path: pathlib.Path | None, candidates: Mapping[str, Sequence[str]]) -> list[Class]:
  """The classes that have candidates, as the table of classes describes them."""
  if not path:
    return [Class(name) for name in sorted(candidates)]
  known = {described.name: described for described in class_files.read_classes(path)}
  if unknown := sorted(candidates.keys() - known.keys()):
    raise UserError(f'{path} lacks the class {unknown[0]!r}, which has images: add a line for it')
  if unused := sorted(known.keys() - candidates.keys()):
    raise UserError(f'{path} names {unused[0]!r}, which has no images: remove its line')
  if grouped := next((c.name for c in known.values() if c.group), None):
    raise UserError(f'{path}: {grouped!r} has a group, which is for --task=icons')
  return [known[name] for name in sorted(known)]


def _class_folders(
  folder: pathlib.Path, found: Sequence[str], problems: Problems
) -> dict[str, list[str]]:
  """{class: its images} of class folders."""
  candidates: dict[str, list[str]] = {}
  for name in found:
    label, slash, _ = name.partition('/')
    if not slash:
      problems.add('image outside the class folders, skipped', name)
      continue
    if problem := class_files.check_class(label):
      raise UserError(f'{folder}: {problem}: rename the folder')
    candidates.setdefault(label, []).append(name)
  if not candidates:
    raise UserError(
      f'{folder} holds no class folders (FOLDER/CLASS/xxx.jpg): make them, or say with '
      '--candidates=CSV which images to show for which class'
    )
  return candidates


def _plan_icons(args: argparse.Namespace, found: Sequence[str], _: Problems) -> Plan:
  if not args.classes:
    classes = [Class(name, group=group) for name, group in coco_pages.CLASSES]
    return Plan(classes, list(coco_pages.GROUPS), {'': list(found)}, {})
  classes = class_files.read_classes(args.classes)
  if shown := next((c.name for c in classes if c.examples or c.definition), None):
    raise UserError(
      f'{args.classes}: {shown!r} has a definition or examples, which are for --task=grid'
    )
  if len(classes) > _MOST_ICONS:
    raise UserError(f'{args.classes}: {len(classes)} classes, at most {_MOST_ICONS} can be icons')
  for number, ungrouped in enumerate(c for c in classes if not c.group):
    ungrouped.group = f'Icons {number // _ICONS_OF_A_PAGE + 1}'
  return Plan(classes, list(dict.fromkeys(c.group for c in classes)), {'': list(found)}, {})
