"""Deletes everything that was recorded about a worker."""

import pathlib

from luab_jax.errors import UserError
from luab_jax.tools.annotate import database, sessions, study
from luab_jax.tools.own_data.problems import pluralize


def run(folder: pathlib.Path, worker: str) -> list[str]:
  """Deletes a worker's answers, events and identity; returns lines to print.

  The study may be served at the same time.

  Raises:
    UserError: no such study, or no such worker in it.
  """
  study.read(folder)
  db = database.connect(folder)
  db.execute('BEGIN IMMEDIATE')
  if not db.execute('SELECT 1 FROM worker WHERE id = ?', (worker,)).fetchone():
    raise UserError(f'{folder} has no worker {worker!r}: the admin page lists them')
  answers = sessions.delete_worker(db, worker)
  db.execute('COMMIT')
  db.close()
  database.empty_log(folder)
  return [
    f'Deleted worker {worker}: {answers} {pluralize(answers, "answer")}. Earlier exports '
    'and copies still hold them.'
  ]
