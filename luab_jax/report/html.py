"""An HTML page that needs nothing but itself: sections of text, tables and pictures."""

import base64
import dataclasses
import pathlib
import time

import jinja2

from luab_jax.errors import UserError
from luab_jax.report import plots


@dataclasses.dataclass
class Picture:
  """An image inside the page.

  Attributes:
    source: data URI.
    alt: what it shows, for those who do not see it.
    caption: visible text below.
    wrong: framed as a mistake.
  """

  source: str
  alt: str
  caption: str = ''
  wrong: bool = False

  @property
  def content(self) -> bytes:
    """The file, JPEG or PNG."""
    return base64.b64decode(self.source.partition(',')[2])


@dataclasses.dataclass
class Table:
  """Rows of text; the first cell of a row names it. `caption`: of a table that is folded away."""

  head: list[str]
  rows: list[list[str]]
  caption: str = ''


@dataclasses.dataclass
class Section:
  """A headed part: paragraphs, tables, pictures, and tables that are folded away.

  Attributes:
    layout: '' for small pictures, 'wide' for pairs, 'charts' for charts.
    legend: (symbol of the template, what it is) pairs, shown above the pictures.
    commands: (what a command is for, the command) pairs, shown below the pictures.
  """

  title: str
  text: list[str]
  tables: list[Table] = dataclasses.field(default_factory=list)
  pictures: list[Picture] = dataclasses.field(default_factory=list)
  folded: list[Table] = dataclasses.field(default_factory=list)
  layout: str = ''
  legend: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  commands: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def chart(figure, alt) -> Picture:
  """A chart of plots.py."""
  return Picture(_data_uri('png', plots.png(figure)), alt)


def photograph(figure, alt, caption, *, wrong=False) -> Picture:
  """A photograph of plots.py."""
  return Picture(_data_uri('jpeg', plots.jpeg(figure)), alt, caption, wrong)


def _data_uri(kind, content):
  return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def write(path, *, title, subtitle, tiles, sections):
  """Writes the page at once or not at all.

  Args:
    path: pathlib.Path of the file.
    title, subtitle: of the page.
    tiles: (name, value) pairs shown large at the top.
    sections: Section objects.
  Returns:
    path.
  Raises:
    UserError: the folder cannot be written.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  content = environment.get_template('report.html.jinja').render(
    colours={'true': plots.TRUE, 'predicted': plots.PREDICTED, 'box': plots.BOX},
    title=title,
    subtitle=subtitle,
    tiles=tiles,
    sections=sections,
    footer=f'Drawn by luab_jax on {time.strftime("%Y-%m-%d %H:%M")}.',
  )
  temporary = path.with_suffix('.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(content, encoding='utf-8')
    temporary.replace(path)
  except OSError as error:
    raise UserError(f'cannot write to --workdir={path.parent}: {error}') from error
  return path
