"""Serves a study until it is interrupted."""

import contextlib
import errno
import pathlib
import socket
import urllib.parse
from collections.abc import Callable, Iterator

import uvicorn

from luab_jax.errors import UserError
from luab_jax.tools import output_folder
from luab_jax.tools.annotate import app, links, study

_LOCAL = ('127.0.0.1', 'localhost', '::1')


def run(
  folder: pathlib.Path,
  host: str,
  port: int,
  public_url: str,
  show: Callable[[str], object] | None = None,
) -> None:
  """Serves a study.

  Args:
    folder: folder of the study.
    host: address to listen on.
    port: port to listen on.
    public_url: what workers open, such as https://lab.example; '' if only this machine does.
    show: called with the link for everyone, once it works.

  Raises:
    UserError: no such study, a port in use, an address that is not this machine's, or a study
      that is being served already.
  """
  check_url(host, public_url)
  settings, keys = study.read(folder), study.read_secrets(folder)
  busy = f'{folder} is being served already: stop that process first'
  with output_folder.locked(folder, busy), _listening(host, port) as server:
    port = server.getsockname()[1]
    origins = [_origin(f'http://{name}:{port}') for name in ('127.0.0.1', 'localhost', '[::1]')]
    if public_url:
      origins.append(_origin(public_url))
    base = public_url.rstrip('/') or origins[2 if ':' in host else 0]
    found = links.of(settings, keys, base)
    with app.opened(folder, origins, found) as asgi:
      print(f'Serving {folder} at {base} until Ctrl-C.')
      print(f'  everyone:  {found.everyone}')
      for worker, link in found.personal.items():
        print(f'  {worker}: {link}')
      print(f'  admin:     {found.admin}', flush=True)
      if show:
        show(found.everyone)
      config = uvicorn.Config(
        asgi,
        log_level='warning',
        access_log=False,  # do not log the addresses of workers
        server_header=False,
        proxy_headers=False,
        ws='none',
        lifespan='off',
        timeout_graceful_shutdown=5,
      )
      uvicorn.Server(config).run(sockets=[server])


def check_url(host: str, public_url: str) -> None:
  """Raises UserError for a public host without a URL for workers, or for an invalid URL."""
  if host not in _LOCAL and not public_url:
    raise UserError(f'--host={host} needs --public_url=https://..., the address that workers open')
  if public_url:
    parts = urllib.parse.urlsplit(public_url)
    if parts.scheme not in ('http', 'https') or not parts.hostname or parts.path.strip('/'):
      raise UserError(f'--public_url={public_url} must be like https://lab.example')


def _origin(url: str) -> str:
  """The origin of a URL as browsers write it: in lower case, without the scheme's own port."""
  parts = urllib.parse.urlsplit(url)
  default = {'http': 80, 'https': 443}[parts.scheme]
  port = f':{parts.port}' if parts.port not in (None, default) else ''
  name = f'[{parts.hostname}]' if ':' in str(parts.hostname) else parts.hostname
  return f'{parts.scheme}://{name}{port}'


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
  """A socket that listens at an address."""
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  with socket.socket(family, socket.SOCK_STREAM) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      server.bind((host, port))
    except (OSError, OverflowError) as error:
      if getattr(error, 'errno', 0) == errno.EADDRINUSE:
        raise UserError(f'port {port} is in use: choose another with --port=...') from error
      raise UserError(f'cannot listen on {host}:{port}: {error}') from error
    server.listen(1024)
    yield server
