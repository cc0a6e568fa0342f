"""Extracts commands and Python blocks from the documents, with their 'needs data' marks."""

import ast
import pathlib
import re
import shlex
from typing import NamedTuple

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(
  [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('tfds_builders/*/README.md')]
)
CONFIGS = sorted(ROOT.glob('configs/[!_]*.py'))
NOTEBOOKS = sorted(ROOT.glob('notebooks/*.ipynb'))

_MARK = 'needs data'
_COMMAND = re.compile(
  r'(?:\$ |!)?(?:srun (?:-\S+ )*)?(?:[A-Z_]+=\S+ )*(?:\S*/)?(python[\d.]*|tfds|make|source) (\S.*)'
)


class Command(NamedTuple):
  """A command as a document prints it.

  Attributes:
    words: program and arguments, as a shell splits them.
    marked: whether the document says that it needs data.
    inline: whether it stands in running text or in a table.
  """

  words: tuple[str, ...]
  marked: bool = False
  inline: bool = False

  @property
  def is_form(self):
    """Whether something has to be filled in: `…`, or a name in capitals as in --manual_dir=RAW."""
    values = [word.rpartition('=')[2] for word in self.words[1:]]
    return any(re.fullmatch(r'.*(…|\.\.\.).*|[A-Z][A-Z_]+(/.*)?', value) for value in values)


def parse_command(text, marked=False, inline=False):
  """A Command, or None if the text is not one of `python`, `tfds`, `make` or `source`."""
  found = _COMMAND.fullmatch(' '.join(text.split()))
  if not found:
    return None
  program = 'python' if found[1].startswith('python') else found[1]
  return Command((program, *shlex.split(found[2], comments=True)), marked, inline)


class Page(NamedTuple):
  """The Commands of a Markdown page, and its Python blocks as (source, marked)."""

  commands: list[Command]
  python: list[tuple[str, bool]]


def read_markdown(text):
  """The Page of a Markdown text.

  A mark, 'needs data', in a heading covers its section; in a paragraph, that paragraph and the
  block or table right below it; in a row of a table, that row.
  """
  page, headings, before = Page([], []), {}, False
  for kind, block in _blocks(text):
    here = before or any(headings.values())
    if kind == 'heading':
      level = len(block) - len(block.lstrip('#'))
      headings = {k: mark for k, mark in headings.items() if k < level}
      headings[level] = _is_marked(block)
      before = False
    elif kind == 'text':
      before = _is_marked(block)
      here = before or any(headings.values())
      rows = block.splitlines() if block.startswith('|') else [block]
      for row in rows:
        marked = _is_marked(row) if row.startswith('|') else here
        _add_inline(page, row, marked or any(headings.values()))
      if block.startswith('|'):
        before = False
    elif kind in ('python', 'py'):
      page.python.append((block, here))
    else:
      lines = block.replace('\\\n', ' ').splitlines()
      page.commands.extend(filter(None, (parse_command(line, here) for line in lines)))
  return page


def _is_marked(text):
  return _MARK in ' '.join(text.lower().split())


def _add_inline(page, text, marked):
  for span in re.findall(r'(?<!`)`([^`]+)`(?!`)', text):
    command = parse_command(span.replace('\\|', '|'), marked, inline=True)
    if command:
      page.commands.append(command)


def _blocks(text):
  """Yields (kind, text): 'heading', 'text' (a paragraph or table), or the language of a fence."""
  lines, paragraph = iter([*text.splitlines(), '']), []
  for line in lines:
    fence = re.fullmatch(r'\s*```(\w*)\s*', line)
    heading = re.match(r'#+ ', line)
    if paragraph and (fence or heading or not line.strip()):
      yield 'text', '\n'.join(paragraph)
      paragraph = []
    if fence:
      block = []
      for line in lines:
        if line.strip() == '```':
          break
        block.append(line)
      yield fence[1], '\n'.join(block)
    elif heading:
      yield 'heading', line
    elif line.strip():
      paragraph.append(line)


def read_page(path):
  """The Page of a Markdown file."""
  return read_markdown(path.read_text(encoding='utf-8'))


def read_docstring(path):
  """The Page of the docstring of a Python file."""
  return read_markdown(ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))))


def read_notebook(path):
  """The Page of a notebook; names in braces, as in --train={TRAIN}, become its settings' values."""
  cells = nbformat.read(path, as_version=4).cells
  page, settings = Page([], []), {}
  for cell in cells:
    if cell.cell_type == 'markdown':
      page.commands.extend(read_markdown(cell.source).commands)
      continue
    # Settings are literals in the cell tagged 'parameters'.
    for node in ast.parse(re.sub(r'^(\s*)!.*', r'\1pass', cell.source, flags=re.M)).body:
      if isinstance(node, ast.Assign) and cell.metadata.get('tags') == ['parameters']:
        _assign(settings, node)
    for line in re.findall(r'^\s*!(.*)', cell.source, re.M):
      line = re.sub(r'\{([A-Z]+)\}', lambda name: str(settings.get(name[1], '')), line)
      page.commands.extend(filter(None, [parse_command(line)]))
  return page


def _assign(settings, node):
  value = ast.literal_eval(node.value)
  for target in node.targets:
    if isinstance(target, ast.Tuple):
      settings |= {name.id: part for name, part in zip(target.elts, value, strict=True)}
    else:
      settings[target.id] = value
