"""The routes of the server; `opened` yields the application of a study."""

import asyncio
import contextlib
import pathlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from luab_jax.tools.annotate import (
  admin,
  database,
  events,
  intake,
  leases,
  sessions,
  settings,
  static_files,
  study,
  web,
)
from luab_jax.tools.annotate.links import Links
from luab_jax.tools.annotate.refusals import Refusal

_FOREVER = {'Cache-Control': 'private, max-age=31536000, immutable'}

DB = sqlite3.Connection
Handler = Callable[[Request], Awaitable[Response]]
Job = Callable[['Server', DB, sqlite3.Row, web.T, bytes], Any]


class Server:
  """A study that is being served: its settings, its writer, and the files that it shows."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.folder = folder.resolve()  # SQLite needs absolute file URIs
    self.study = study.read(folder)
    self.keys = study.read_secrets(folder)
    self.writer = database.Writer(folder)
    self.rates = web.Rates()
    self.static = static_files.read()
    self.renditions = {path.name: path for path in (folder / 'renditions').iterdir()}
    self.page = _render_page(self.study)


def _render_page(of: study.Study) -> bytes:
  """The worker's page with the settings of the study in it."""
  folder = pathlib.Path(__file__).with_name('static')
  environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True)
  template = environment.get_template('worker.html')
  return template.render(study=settings.of(of)).encode()


def now_ms() -> int:
  """ms since 1970."""
  return time.time_ns() // 1_000_000


@contextlib.contextmanager
def opened(folder: pathlib.Path, origins: Collection[str], found: Links) -> Iterator[ASGIApp]:
  """Yields the application of a study; on exit, everything it accepted is on disk.

  Args:
    folder: folder of the study.
    origins: the origins it is reached under, such as 'http://127.0.0.1:8000'.
    found: its links, which the admin page shows.

  Raises:
    UserError: there is no study, or it has another version.
  """
  server = Server(folder)
  app = Starlette(
    routes=[*_routes(server), *_admin_routes(server, found)],
    exception_handlers={Refusal: _refused, HTTPException: _not_found},
  )
  try:
    yield web.Guard(app, origins, is_mturk=server.study.platform == 'mturk')
  finally:
    server.writer.close()


def _routes(server: Server) -> list[Route]:
  return [
    Route('/w', _page(server)),
    Route('/static/{name}', _static(server)),
    Route('/i/{name}', _rendition(server)),
    _post('session', _session(server)),
    _post('lease', _in_session(server, leases.Ask, _lease)),
    _post('events', _in_session(server, events.Batch, _events)),
    _post('submit', _in_session(server, events.Submit, _submit)),
    _post('report', _in_session(server, intake.Report, _report)),
    _post('withdraw', _withdraw(server)),
  ]


def _admin_routes(server: Server, found: Links) -> list[Route]:
  page = pathlib.Path(__file__).with_name('static').joinpath('admin.html').read_bytes()

  async def show(_: Request) -> Response:
    return Response(page, media_type='text/html')

  of_study = admin.Admin(server.folder, server.study, server.keys, server.writer, found)
  return [Route('/admin', show), *of_study.routes]


def _post(name: str, handler: Handler) -> Route:
  return Route(f'/api/{name}', handler, methods=['POST'])


async def _refused(_: Request, error: Exception) -> Response:
  assert isinstance(error, Refusal)
  return web.to_json(error.answer, error.status)


async def _not_found(_: Request, error: Exception) -> Response:
  assert isinstance(error, HTTPException)
  return web.to_json({'error': 'http', 'message': error.detail}, error.status_code)


def _page(server: Server) -> Handler:
  async def page(_: Request) -> Response:
    return Response(server.page, media_type='text/html')

  return page


def _static(server: Server) -> Handler:
  async def static(request: Request) -> Response:
    file = server.static.get(request.path_params['name'])
    if not file:
      raise Refusal(404, 'file', 'There is no such file.')
    return Response(file.data, media_type=file.media_type, headers={'Cache-Control': 'no-cache'})

  return static


def _rendition(server: Server) -> Handler:
  async def rendition(request: Request) -> Response:
    path = server.renditions.get(request.path_params['name'])
    if not path:
      raise Refusal(404, 'file', 'There is no such image.')
    data = await asyncio.to_thread(path.read_bytes)
    kind = 'image/png' if path.suffix == '.png' else 'image/jpeg'
    return Response(data, media_type=kind, headers=_FOREVER)

  return rendition


def _session(server: Server) -> Handler:
  async def session(request: Request) -> Response:
    token = web.bearer(request)
    server.rates.count(token)
    asked = web.decode(await web.read_body(request), sessions.Start)
    return web.to_json(
      await server.writer.run(lambda db: sessions.start(db, server.keys, token, asked, now_ms()))
    )

  return session


def _in_session(server: Server, kind: type[web.T], job: Job[web.T]) -> Handler:
  """Returns a handler for requests within a session.

  Args:
    server: the server, whose database the job uses.
    kind: type of the body.
    job: function of (server, database, session, decoded body, body).
  """

  async def in_session(request: Request) -> Response:
    token = web.bearer(request)
    server.rates.count(token)
    body = await web.read_body(request)
    asked = web.decode(body, kind)
    return web.to_json(
      await server.writer.run(lambda db: job(server, db, sessions.find(db, token), asked, body))
    )

  return in_session


def _lease(server: Server, db: DB, session: sqlite3.Row, asked: leases.Ask, _: bytes) -> Any:
  return leases.give(db, server.study, session, asked.tab, now_ms())


def _events(server: Server, db: DB, session: sqlite3.Row, batch: events.Batch, raw: bytes) -> Any:
  return intake.store_batch(db, server.study, session['worker'], batch, raw, now_ms())


def _submit(server: Server, db: DB, session: sqlite3.Row, end: events.Submit, raw: bytes) -> Any:
  return intake.submit(db, server.study, session['worker'], end, raw, now_ms())


def _report(_: Server, db: DB, session: sqlite3.Row, broken: intake.Report, __: bytes) -> Any:
  return intake.report(db, session['worker'], broken)


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
  """The body of `POST /api/withdraw`: the session says whose data."""


def _delete(_: Server, db: DB, session: sqlite3.Row, __: _Nothing, ___: bytes) -> Any:
  sessions.delete_worker(db, session['worker'])
  return {'ok': True}


def _withdraw(server: Server) -> Handler:
  delete = _in_session(server, _Nothing, _delete)

  async def withdraw(request: Request) -> Response:
    answer = await delete(request)
    await asyncio.to_thread(database.empty_log, server.folder)
    return answer

  return withdraw
