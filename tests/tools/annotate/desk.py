"""A study's database without a server in front of it, with a clock that tests set."""

import os
import shutil

import msgspec

from luab_jax.tools.annotate import database, events, intake, leases, sessions, study
from tests.tools.annotate.serving import Client

NOW = 1_800_000_000_000


class Desk:
  """Calls the functions that the routes call, each in its own transaction."""

  def __init__(self, folder, copy):
    self.folder = shutil.copytree(folder, copy)
    self.study, self.keys = study.read(self.folder), study.read_secrets(self.folder)
    self.db, self.now = database.connect(self.folder), NOW

  def do(self, job, *args):
    self.db.execute('BEGIN IMMEDIATE')
    try:
      answer = job(self.db, *args)
    except BaseException:
      self.db.execute('ROLLBACK')
      raise
    self.db.execute('COMMIT')
    return answer

  def one(self, query, *values):
    """The first column of a query's first row."""
    return self.db.execute(query, values).fetchone()[0]

  def join(self, token=None, **platform):
    """A person who has consented."""
    asked = sessions.Start(True, 'fine', sessions.Platform(**platform))
    return Person(
      self, self.do(sessions.start, self.keys, token or self.keys.join, asked, self.now)
    )

  def worker(self, **platform):
    """A person who has done the practice page."""
    person = self.join(**platform)
    person.do_page(person.lease())
    return person


class Person(Client):
  """Like `serving.Client`, without HTTP."""

  def __init__(self, desk, answer):
    self.desk, self.token, self.id = desk, answer['token'], answer['worker']
    self.tab = os.urandom(8).hex()

  @property
  def session(self):
    return sessions.find(self.desk.db, self.token)

  def call(self, name, body):
    desk, raw = self.desk, msgspec.json.encode(body)
    if name == 'lease':
      return desk.do(leases.give, desk.study, self.session, body['tab'], desk.now)
    kind, job = {
      'events': (events.Batch, intake.store_batch),
      'submit': (events.Submit, intake.submit),
    }[name]
    record = msgspec.json.decode(raw, type=kind)
    return desk.do(job, desk.study, self.id, record, raw, desk.now)
