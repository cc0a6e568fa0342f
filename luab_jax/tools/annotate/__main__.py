"""Collects your own byproducts: `python -m luab_jax.tools.annotate`.

init creates a study from a folder of images, serve shows it to workers in their browsers, export
writes their answers in the layout of the releases, forget deletes a worker's data; demo does the
first two with drawn images.
"""

import argparse
import os
import pathlib
import signal
import sys

from luab_jax.errors import UserError
from luab_jax.tools.annotate import export
from luab_jax.tools.parser import Parser

_COMMAND = 'python -m luab_jax.tools.annotate'


def _parser() -> argparse.ArgumentParser:
  parser = Parser(prog=_COMMAND, allow_abbrev=False, description=__doc__.partition(':')[0] + '.')
  commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

  def add(name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, allow_abbrev=False, help=text, description=text)

  _add_init(add('init', 'create a study from a folder of images'))
  serve = add('serve', 'serve a study until Ctrl-C, and print its links')
  serve.add_argument('study', type=pathlib.Path, metavar='STUDY')
  serve.add_argument('--host', default='127.0.0.1', help='default: %(default)s')
  serve.add_argument('--public_url', default='', metavar='URL', help='address that workers open')
  demo = add('demo', 'create and serve a tiny study with drawn images, and open a browser')
  demo.add_argument('--task', choices=('grid', 'icons'), default='grid')
  demo.add_argument('--out', type=pathlib.Path, metavar='STUDY', help='default: runs/annotate_TASK')
  for command in (serve, demo):
    command.add_argument('--port', type=int, default=8000, help='default: %(default)s')
  export.add_arguments(add('export', 'export the answers in the format that the builders read'))
  forget = add('forget', 'delete all data of a worker')
  forget.add_argument('study', type=pathlib.Path, metavar='STUDY')
  forget.add_argument('worker', metavar='WORKER')
  return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
  def path(name: str, text: str, *, required: bool = False) -> None:
    parser.add_argument(name, required=required, type=pathlib.Path, metavar='PATH', help=text)

  def number(name: str, text: str, default: int | None = None) -> None:
    parser.add_argument(name, type=int, default=default, metavar='N', help=text)

  def text(name: str, text: str) -> None:
    parser.add_argument(name, default='', metavar='TEXT', help=text)

  parser.add_argument(
    '--task',
    choices=('grid', 'icons'),
    required=True,
    help='grid: choose the images of a class; icons: put icons on the objects of an image',
  )
  path('--images', 'folder of images; grid: of class folders (CLASS/xxx.jpg)', required=True)
  path('--out', 'folder of the study, a new one', required=True)
  path('--classes', "CSV: name[,definition][,examples][,group]; icons: default COCO's 80 classes")
  path('--candidates', 'grid: CSV file,class: which images to show for a class')
  path('--gold', 'grid: CSV file,class[,present]: images with known answers, mixed in')
  path('--icons', 'icons: folder of drawings, named after the classes')
  number('--answers', 'answers per page, from different workers (default: %(default)s)', 1)
  number('--page_size', 'grid: images per page (default: 48)')
  number('--pages_per_worker', 'pages per worker (default: grid 10, icons 20)')
  number('--workers', 'personal links to create besides the one for everyone (default: 0)', 0)
  parser.add_argument(
    '--pointer',
    choices=('plain', 'red'),
    default='plain',
    help='grid: red adds a dot at the cursor',
  )
  parser.add_argument(
    '--blur', choices=('on', 'off'), default='off', help='grid: blur images until hovered'
  )
  parser.add_argument(
    '--track',
    choices=('60hz', 'raw'),
    default='60hz',
    help='cursor positions: 60 per second, or raw: all',
  )
  parser.add_argument(
    '--require_all_pages',
    action='store_true',
    help='icons: allow submitting only after all pages of icons were seen',
  )
  parser.add_argument('--platform', choices=('mturk', 'prolific'), help='where workers come from')
  text('--return_url', 'where workers go at the end, such as the completion link of Prolific')
  text('--title', 'what workers see as the name of the study')
  text('--about', 'what the study is for, shown before workers agree')
  text('--contact', 'whom workers can ask')


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
  """Parses the command line; raises UserError for a mistake."""
  return _parser().parse_args(argv)


def main(argv: list[str] | None = None) -> None:
  """Runs a command; raises UserError for a user's mistake."""
  args = parse_arguments(argv)
  try:
    _run(args)
  except ModuleNotFoundError as error:
    if error.name not in ('starlette', 'uvicorn'):
      raise
    raise UserError(
      f"{args.command} needs the package {error.name}: pip install -e '.[annotate]'"
    ) from error


def _run(args: argparse.Namespace) -> None:
  if args.command == 'init':
    from luab_jax.tools.annotate import init

    print('\n'.join(init.run(args)), flush=True)
  elif args.command == 'serve':
    from luab_jax.tools.annotate import serve

    serve.run(args.study, args.host, args.port, args.public_url)
  elif args.command == 'demo':
    from luab_jax.tools.annotate import demo

    demo.run(args, parse_arguments)
  elif args.command == 'export':
    export.run(args)
  else:
    from luab_jax.tools.annotate import forget

    print('\n'.join(forget.run(args.study, args.worker)), flush=True)


if __name__ == '__main__':
  try:
    main()
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)
  except BrokenPipeError:  # the reader of the output is gone, as in `| head`
    os._exit(128 + signal.SIGPIPE)
