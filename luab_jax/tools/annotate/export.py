"""Exports a study as the files that the builders read, and a file with everything recorded."""

import argparse
import contextlib
import pathlib

from luab_jax import configure_process
from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.annotate import study as studies
from luab_jax.tools.annotate.answers import Answers
from luab_jax.tools.annotate.study import Study
from luab_jax.tools.own_data.problems import Problems

_FRACTION = 0.1  # held out for validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the options of the command."""

  def path(name: str, text: str, *, required: bool = False) -> None:
    parser.add_argument(name, required=required, type=pathlib.Path, metavar='PATH', help=text)

  parser.add_argument('study', type=pathlib.Path, metavar='STUDY')
  path('--out', 'output folder: a new one, or one made by this command', required=True)
  parser.add_argument(
    '--labels',
    choices=('given', 'voted'),
    help='grid: the class that an image is a candidate for (default), or the one that most workers '
    'selected it for',
  )
  path('--coco', 'icons: COCO instances file (JSON); default: what most workers placed')
  path('--coco_validation', 'icons: COCO instances file of the validation images')
  parser.add_argument(
    '--validation_fraction',
    type=float,
    metavar='FRACTION',
    help=f'fraction of the images to hold out (default: {_FRACTION})',
  )


def run(args: argparse.Namespace) -> None:
  """Exports, then prints counts, problems and the next commands.

  Raises:
    UserError: the study cannot be read or has nothing to export, the options conflict, or the
      folder holds something else.
  """
  study = studies.read(args.study)
  _check(args, study)
  # TensorFlow takes seconds to import: only once the arguments are known to be right.
  configure_process(hide_image_errors=True)
  from luab_jax.tools.annotate import grid_release, icons_release
  from luab_jax.tools.own_data import layouts

  layout = grid_release if study.task == 'grid' else icons_release
  title = f'Annotations in the layout of {layout.NAME}'
  with contextlib.closing(Answers(args.study)) as answers:
    layouts.write(
      args.out,
      'annotate export',
      title,
      layout.NAME,
      lambda folder, problems: _write(args, study, answers, folder, problems),
    )


def _check(args: argparse.Namespace, study: Study) -> None:
  """Raises UserError for conflicting or invalid options, and for an unsuitable folder."""
  only = {'grid': ('labels',), 'icons': ('coco', 'coco_validation')}
  for task, names in only.items():
    if used := [name for name in names if task != study.task and getattr(args, name)]:
      raise UserError(f'--{used[0]} is for studies of the task {task}, and {args.study} is not')
  if args.coco_validation and not args.coco:
    raise UserError('--coco_validation needs --coco')
  if args.coco_validation and args.validation_fraction is not None:
    raise UserError('--coco_validation and --validation_fraction are mutually exclusive')
  if args.validation_fraction is None:
    args.validation_fraction = _FRACTION
  if not 0 < args.validation_fraction < 1:
    raise UserError(f'--validation_fraction={args.validation_fraction:g} must be between 0 and 1')
  output_folder.refuse_overlap(args.out, [pathlib.Path(study.images), args.study])


def _write(
  args: argparse.Namespace, study: Study, answers: Answers, out: pathlib.Path, problems: Problems
) -> list[str]:
  """Writes all files; returns the lines of the table of classes."""
  from luab_jax.tools.annotate import grid_release, icons_release, judging, sidecar

  for answer in answers.answers:
    where = '' if answer.state == 'accepted' else f', only in {sidecar.NAME}'
    problems.count(f'answer {answer.state}{where}')
  if not answers.accepted():
    raise UserError(f'{args.study} has no accepted answer yet: nothing to export')
  root = pathlib.Path(study.images)
  if study.task == 'grid':
    judged = judging.judge(answers, 'grid')
    written = grid_release.write(
      answers,
      judged,
      root,
      out,
      problems,
      labels=args.labels or 'given',
      fraction=args.validation_fraction,
      thin=study.track == 'raw',
    )
  else:
    listing = boxes = None
    if args.coco:
      listing = icons_release.read_instances(
        answers, root, args.coco, args.coco_validation, problems
      )
      boxes = icons_release.boxes_of(answers, root, study, listing)
    judged = judging.judge(answers, 'icons', boxes)
    fraction = 0.0 if args.coco_validation else args.validation_fraction
    written = icons_release.write(answers, judged, study, listing, out, problems, fraction=fraction)
  unseen = sum(len(judged[a.lease].unseen) for found in answers.accepted().values() for a in found)
  problems.count('showing of an image that was reported or never loaded, skipped', unseen)
  sidecar.write(out, study, answers, judged, written)
  return written.table
