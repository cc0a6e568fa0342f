"""What every request goes through: checks of host, origin, size and rate, and response headers."""

import collections
import time
from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luab_jax.tools.annotate.refusals import Refusal
from luab_jax.tools.annotate.sessions import MTURK_HOSTS
from luab_jax.tools.annotate.study import hash_token

T = TypeVar('T')

MAX_BODY = 256 << 10  # bytes
_RATE, _BURST = 20.0, 200.0  # requests per second of a session; at once, after being offline
_MAX_BUCKETS = 10_000
_MTURK_FRAMES = ('https://worker.mturk.com', *MTURK_HOSTS)


def to_json(value: object, status: int = 200) -> Response:
  """A JSON response."""
  return Response(msgspec.json.encode(value), status, media_type='application/json')


async def read_body(request: Request) -> bytes:
  """The body of a request; raises Refusal 413 if it is too long."""
  body = bytearray()
  async for chunk in request.stream():
    body += chunk
    if len(body) > MAX_BODY:
      raise Refusal(413, 'size', f'The request has more than {MAX_BODY} bytes.')
  return bytes(body)


def decode(body: bytes, kind: type[T]) -> T:
  """Decodes a body; raises Refusal 400 if it is not JSON, 422 if it is not of this type."""
  try:
    return msgspec.json.decode(body, type=kind)
  except msgspec.ValidationError as error:
    raise Refusal(422, 'range', str(error)) from error
  except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
    raise Refusal(400, 'json', f'The request is not JSON: {error}') from error


def bearer(request: Request) -> str:
  """The token of a request; raises Refusal 401 if there is none."""
  kind, _, token = request.headers.get('authorization', '').partition(' ')
  if kind.lower() != 'bearer' or not token:
    raise Refusal(401, 'token', 'This link is not valid: ask for a new one.')
  return token


class Rates:
  """Limits the requests of each token: _RATE per second, _BURST at once."""

  def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
    self._clock = clock
    self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

  def count(self, token: str) -> None:
    """Counts a request; raises Refusal 429 if there are too many."""
    key, now = hash_token(token), self._clock()
    left, before = self._buckets.pop(key, (_BURST, now))
    left = min(_BURST, left + _RATE * (now - before)) - 1
    self._buckets[key] = max(left, 0), now
    if len(self._buckets) > _MAX_BUCKETS:
      self._buckets.popitem(last=False)
    if left < 0:
      raise Refusal(429, 'rate', 'Too many requests: wait a moment.')


class Guard:
  """Refuses foreign hosts and origins, and adds security headers to every response."""

  def __init__(self, app: ASGIApp, origins: Collection[str], *, is_mturk: bool) -> None:
    """`origins`: those of this server, such as 'http://127.0.0.1:8000'."""
    self._app = app
    self._origins = set(origins)
    self._hosts = {origin.partition('://')[2] for origin in origins}
    self._headers = [
      (name.lower().encode(), value.encode()) for name, value in _headers(is_mturk).items()
    ]

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return

    async def send_with_headers(message: Message) -> None:
      if message['type'] == 'http.response.start':
        known = {name.lower() for name, _ in message['headers']}
        message['headers'] += [entry for entry in self._headers if entry[0] not in known]
      await send(message)

    headers = [(name, value.decode('latin-1').lower()) for name, value in scope['headers']]
    hosts = [value for name, value in headers if name == b'host']
    origins = [value for name, value in headers if name == b'origin']
    if len(hosts) != 1 or hosts[0] not in self._hosts:
      await to_json({'error': 'host', 'message': 'Unknown host.'}, 421)(
        scope, receive, send_with_headers
      )
    elif not self._origins.issuperset(origins):
      await to_json({'error': 'origin', 'message': 'Foreign origin.'}, 403)(
        scope, receive, send_with_headers
      )
    else:
      await self._app(scope, receive, send_with_headers)


def _headers(is_mturk: bool) -> dict[str, str]:
  frames = ' '.join(_MTURK_FRAMES) if is_mturk else "'none'"
  forms = ' '.join(MTURK_HOSTS) if is_mturk else "'none'"
  policy = {
    'default-src': "'none'",
    'script-src': "'self'",
    'style-src': "'self'",
    'img-src': "'self'",
    'connect-src': "'self'",
    'base-uri': "'none'",
    'form-action': forms,
    'frame-ancestors': frames,
  }
  return {
    'Content-Security-Policy': '; '.join(f'{name} {value}' for name, value in policy.items()),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    # For isolated pages, the browser's clock has a resolution of 5 µs instead of 100 µs.
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy': 'camera=(), microphone=(), geolocation=()',
    'Cache-Control': 'no-store',
  }
