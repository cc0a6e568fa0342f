"""The researcher's side: progress, workers, replays, verdicts, and the export.

Every request except the page itself carries the token of the admin link.
"""

import asyncio
import hmac
import pathlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from luab_jax.tools.annotate import admin_queries, evaluation, web
from luab_jax.tools.annotate.database import Writer
from luab_jax.tools.annotate.links import Links
from luab_jax.tools.annotate.refusals import Refusal
from luab_jax.tools.annotate.study import Secrets, Study, hash_token

_LATEST = 8  # answers on the overview


class Verdict(msgspec.Struct, forbid_unknown_fields=True):
  """`POST /admin/api/answers/ID/verdict`; null withdraws the verdict."""

  verdict: Literal['accepted', 'rejected'] | None


class Admin:
  """The routes below /admin/api of a study.

  Attributes:
    routes: for Starlette.
  """

  def __init__(
    self, folder: pathlib.Path, study: Study, keys: Secrets, writer: Writer, links: Links
  ) -> None:
    self._folder = folder.resolve()
    self._study, self._writer, self._links = study, writer, links
    self._token = hash_token(keys.admin)
    self._exporting = asyncio.Lock()
    self.routes = [
      self._route('status', self._status),
      self._route('links', self._show_links),
      self._route('classes', self._classes),
      self._route('workers', self._workers),
      self._route('workers/{id}', self._worker),
      self._route('pages', self._pages),
      self._route('pages/{id:int}', self._page),
      self._route('answers', self._latest),
      self._route('answers/{id:int}', self._answer),
      self._route('answers/{id:int}/verdict', self._judge, 'POST'),
      self._route('export', self._export, 'POST'),
    ]

  def _route(self, path: str, handler: Callable, method: str = 'GET') -> Route:
    async def answer(request: Request) -> Response:
      if not hmac.compare_digest(hash_token(web.bearer(request)), self._token):
        raise Refusal(401, 'token', 'This is not the admin link of the study.')
      return web.to_json(await handler(request))

    return Route(f'/admin/api/{path}', answer, methods=[method])

  async def _read(self, query: Callable, *args: Any) -> Any:
    """Returns the result of a query, run in another thread on its own connection."""

    def run() -> Any:
      database = sqlite3.connect(f'{(self._folder / "study.db").as_uri()}?mode=ro', uri=True)
      try:
        return query(database, *args)
      finally:
        database.close()

    return await run_in_threadpool(run)

  async def _status(self, _: Request) -> dict:
    await self._evaluate()
    counts = await self._read(admin_queries.status, self._study.answers, _now())
    return {
      'title': self._study.title,
      'task': self._study.task,
      'wanted': self._study.answers,
      **counts,
    }

  async def _evaluate(self) -> None:
    """Evaluates new answers; done here, so that workers never wait for it."""
    rows = await self._read(evaluation.evaluate, self._folder, self._study.task)
    if rows:
      await self._writer.run(lambda db: evaluation.keep(db, rows))

  async def _show_links(self, _: Request) -> dict:
    return {'everyone': self._links.everyone, 'personal': self._links.personal}

  async def _classes(self, _: Request) -> dict:
    return {
      'classes': [
        {'name': c.name, 'icon': f'/i/{c.icon}' if c.icon else None} for c in self._study.classes
      ]
    }

  async def _workers(self, _: Request) -> list:
    return await self._read(admin_queries.workers)

  async def _worker(self, request: Request) -> list:
    return await self._read(admin_queries.answers, None, request.path_params['id'])

  async def _pages(self, request: Request) -> list:
    start = request.query_params.get('from', '0')
    if not start.isdecimal() or len(start) > 9:
      raise Refusal(400, 'from', 'from is the number of a row.')
    return await self._read(admin_queries.pages, int(start))

  async def _page(self, request: Request) -> dict:
    return await self._read(admin_queries.page, request.path_params['id'], self._study.task)

  async def _latest(self, _: Request) -> list:
    return await self._read(admin_queries.answers, None, None, _LATEST)

  async def _answer(self, request: Request) -> dict:
    return await self._read(admin_queries.answer, request.path_params['id'])

  async def _judge(self, request: Request) -> dict:
    asked = web.decode(await web.read_body(request), Verdict)
    lease = request.path_params['id']
    await self._writer.run(
      lambda db: admin_queries.judge(db, lease, asked.verdict, self._study.answers, _now())
    )
    return {'ok': True}

  async def _export(self, _: Request) -> dict:
    """Exports next to the folder of the study, in another process, as it may take minutes."""
    if self._exporting.locked():
      raise Refusal(409, 'busy', 'An export is already running.')
    out = self._folder.with_name(f'{self._folder.name}_export')
    command = ['-m', 'luab_jax.tools.annotate', 'export', str(self._folder), f'--out={out}']
    async with self._exporting:
      process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
      )
      said, problem = (text.decode() for text in await process.communicate())
    if process.returncode:
      raise Refusal(422, 'export', problem.strip().rpartition('\n')[2].removeprefix('error: '))
    return {'folder': str(out), 'text': said}


def _now() -> int:
  return time.time_ns() // 1_000_000
