"""Damaged requests are refused with a message or stored unchanged; nothing else happens."""

import copy
import json
import random

import pytest

from luab_jax.tools.annotate import events, intake, leases, replay, sessions, web
from luab_jax.tools.annotate.refusals import Refusal
from tests.tools.annotate.desk import Desk
from tests.tools.annotate.serving import make_study

_VALUES = (None, True, 0, -1, 4, 1.5, 1e308, 2**53, 2**70, '', '\ud800', '0' * 16, [], [1], {})
_EVENTS = {
  'grid': (
    {'e': 'enter', 't': 1, 'i': 0},
    {'e': 'on', 't': 2, 'i': 0, 's': 'mouse', 'x': 0.1, 'y': 0.2},
    {'e': 'off', 't': 3, 'i': 1, 's': 'key'},
  ),
  'icons': (
    {'e': 'tab', 't': 1, 'k': 1, 's': 'search'},
    {'e': 'drag', 't': 2, 'c': 0, 'x': 1, 'y': 1},
    {'e': 'put', 't': 3, 'c': 0, 's': 'touch', 'x': 0.1, 'y': 0.1},
    {'e': 'remove', 't': 4, 'c': 1, 's': 'undo'},
  ),
}
_BOTH = (
  {'e': 'page', 't': 1, 'w': 1280, 'h': 720, 'dpr': 2},
  {'e': 'box', 't': 1, 'i': 0, 'x': 1, 'y': 1, 'w': 300, 'h': 200},
  {'e': 'move', 't': 2, 'i': 0, 'x': 0.5, 'y': 0.5},
  {'e': 'hide', 't': 3},
)


def _damage(rng, request):
  """A request with values replaced, removed or added, or with bytes overwritten."""
  request = copy.deepcopy(request)
  for _ in range(rng.randint(0, 3)):
    node = request
    while True:
      key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
      if node[key] and isinstance(node[key], dict | list) and rng.random() < 0.7:
        node = node[key]
        continue
      change = rng.random()
      if change < 0.2 and len(node) > 1:
        del node[key]
      elif change < 0.3 and isinstance(node, dict):
        node[rng.choice('acekix')] = copy.copy(rng.choice(_VALUES))
      else:
        node[key] = copy.copy(rng.choice(_VALUES))
      break
  data = bytearray(json.dumps(request).encode())
  for _ in range(rng.choice((0, 0, 0, 3))):
    data[rng.randrange(len(data))] = rng.randrange(256)
  return bytes(data)


def _send(desk, person, name, data):
  """Does what the route of a call does with the body of a request."""
  if name == 'session':
    start = web.decode(data, sessions.Start)
    return desk.do(sessions.start, desk.keys, desk.keys.join, start, desk.now)
  if name == 'lease':
    tab = web.decode(data, leases.Ask).tab
    return desk.do(leases.give, desk.study, person.session, tab, desk.now)
  if name == 'report':
    return desk.do(intake.report, person.id, web.decode(data, intake.Report))
  kind, job = {
    'events': (events.Batch, intake.store_batch),
    'submit': (events.Submit, intake.submit),
  }[name]
  return desk.do(job, desk.study, person.id, web.decode(data, kind), data, desk.now)


@pytest.mark.parametrize('task', _EVENTS)
def test_damaged_requests_are_refused_or_stored_as_they_came(tmp_path, task):
  desk, rng = Desk(make_study(tmp_path, task=task), tmp_path / 'copy'), random.Random(1)
  person = desk.join()
  lease, stored, refused = person.lease()['lease'], {}, set()
  for number in range(1500):
    name = rng.choice(('events', 'events', 'events', 'submit', 'session', 'lease', 'report'))
    request = {
      'events': person.batch(lease, number, *_BOTH, *_EVENTS[task]),
      'submit': person.end(lease, 3, [0, 1], [{'c': 0, 'x': 0.1, 'y': 0.1}]),
      'session': {'consent': True, 'pointer': 'fine', 'platform': {'PROLIFIC_PID': 'somebody'}},
      'lease': {'tab': person.tab},
      'report': {'lease': lease, 'slot': 0},
    }[name]
    data = _damage(rng, request)
    try:
      answer = _send(desk, person, name, data)
    except Refusal as refusal:
      refused.add((name, refusal.status))
      continue
    if name == 'lease':
      person.tab = json.loads(data)['tab']
    if name == 'events':
      stored[answer['ok']] = data
  rows = desk.db.execute('SELECT seq, events FROM batch').fetchall()
  assert {row['seq']: row['events'] for row in rows} == stored and len(stored) > 100
  assert {('events', 400), ('events', 422), ('submit', 409), ('session', 422)} <= refused
  batches = replay.decode(stored.values())
  (replay.replay_grid if task == 'grid' else replay.replay_icons)(batches)
