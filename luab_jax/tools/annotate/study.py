"""The folder of a study: what it asks (study.json) and its secrets (secret.json).

| file | what it holds |
|---|---|
| study.json | a `Study`, nothing secret |
| secret.json | `Secrets`, readable by its owner alone |
| study.db, identities.db | see schema.sql and database.py |
| renditions/ | the images as they are shown, with names that cannot be guessed |
| skipped.csv | files of the image folder that were left out, and why |
"""

import base64
import hashlib
import hmac
import os
import pathlib
import secrets
from typing import Annotated, Any, Literal

import msgspec

from luab_jax.errors import UserError
from luab_jax.tools.annotate.practice import Spot

VERSION = 1

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Class(msgspec.Struct, forbid_unknown_fields=True):
  """A class that a grid asks for, or an icon."""

  name: str
  definition: str = ''
  examples: list[str] = []  # names of renditions
  group: str = ''  # icons: the page of icons it is on
  icon: str = ''  # icons: name of the rendition of its drawing; '': shown as text


class Practice(msgspec.Struct, forbid_unknown_fields=True):
  """What the practice page shows besides its images, and the correct answers."""

  name: str = ''  # grid: of the class asked for
  definition: str = ''
  slots: list[int] = []  # grid: of the images of the class
  classes: list[Class] = []  # icons: its own
  spots: list[Spot] = []  # icons: where they belong


class Study(msgspec.Struct, forbid_unknown_fields=True):
  """What a study asks, and how."""

  version: int
  task: Literal['grid', 'icons']
  title: str
  about: str  # what the study is for, as workers read it before they agree
  contact: str  # whom they may ask
  images: str  # the folder, absolute
  classes: list[Class]
  groups: list[str]  # icons: their pages, in the order in which they are shown
  page_size: Positive  # images per page
  pages_per_worker: Positive
  answers: Positive  # per page, from different workers
  pointer: Literal['plain', 'red']  # grid: red: a dot follows the cursor
  blur: Literal['on', 'off']  # grid: images are blurred until the cursor is on them
  track: Literal['60hz', 'raw']  # positions of the cursor
  require_all_pages: bool  # icons: submit only once all pages of icons were open
  platform: Literal['', 'mturk', 'prolific']
  return_url: str  # where workers go at the end; '': nowhere
  practice: Practice


class Secrets(msgspec.Struct, forbid_unknown_fields=True):
  """Tokens are 128 bits; only their hashes are in the database."""

  key: str  # of the tokens of sessions
  salt: str  # of the pseudonyms of platform ids
  join: str  # token of the link for everyone
  admin: str
  personal: dict[str, str] = {}  # {worker: token of the personal link}


def make_secrets(workers: int) -> Secrets:
  """Secrets of a new study with personal links for a number of workers."""
  personal = {secrets.token_hex(5): new_token() for _ in range(workers)}
  return Secrets(secrets.token_hex(32), secrets.token_hex(32), new_token(), new_token(), personal)


def new_token() -> str:
  """128 random bits in 22 characters that need no escape in a link."""
  return secrets.token_urlsafe(16)


def hash_token(token: str) -> str:
  """The hash of a token, which is all that the database keeps of it."""
  return hashlib.sha256(token.encode()).hexdigest()


def session_token(key: str, session: int) -> str:
  """The token of a session; always the same, so that a lost response can be repeated."""
  mac = hmac.digest(bytes.fromhex(key), f'session:{session}'.encode(), 'sha256')
  return base64.urlsafe_b64encode(mac[:16]).decode().rstrip('=')


def pseudonym(salt: str, text: str) -> str:
  """40 hex digits that replace a platform's id."""
  return hmac.new(bytes.fromhex(salt), text.encode(), 'sha256').hexdigest()[:40]


def write(folder: pathlib.Path, study: Study, study_secrets: Secrets) -> None:
  """Writes study.json and secret.json."""
  descriptor = os.open(folder / 'secret.json', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with open(descriptor, 'wb') as file:
    file.write(_to_json(study_secrets))
  (folder / 'study.json').write_bytes(_to_json(study))


def _to_json(value: Any) -> bytes:
  return msgspec.json.format(msgspec.json.encode(value), indent=2) + b'\n'


def read(folder: pathlib.Path) -> Study:
  """Reads study.json; raises UserError if there is none, or if it has another version."""
  path = folder / 'study.json'
  try:
    data = path.read_bytes()
  except OSError as error:
    raise UserError(
      f'{folder} holds no study ({error.strerror}: {path.name}): make one with '
      f'python -m luab_jax.tools.annotate init --out={folder} ...'
    ) from error
  try:
    version = msgspec.json.decode(data)['version']
    if version != VERSION:
      raise UserError(
        f'{path} is a study of version {version}, this luab_jax reads version {VERSION}: use the '
        'luab_jax that made it'
      )
    return msgspec.json.decode(data, type=Study)
  except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError) as error:
    raise UserError(f'{path} is damaged ({error}): restore it from a copy') from error


def read_secrets(folder: pathlib.Path) -> Secrets:
  """Reads secret.json; raises UserError if it cannot."""
  path = folder / 'secret.json'
  try:
    return msgspec.json.decode(path.read_bytes(), type=Secrets)
  except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
    raise UserError(f'{path} cannot be read ({error}): restore it from a copy') from error
