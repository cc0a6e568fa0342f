"""The admin page in Chromium: answers are replayed as they were recorded."""

import pytest

from luab_jax.tools.annotate import database, evaluation, events
from tests.tools.annotate import filled_study
from tests.tools.annotate.browser import PATIENCE
from tests.tools.annotate.serving import serving

pytestmark = pytest.mark.slow


def _boxes_and_clicks(folder, kind):
  """({slot: box}, the events of a kind that has a point) of the first answer."""
  db = database.connect(folder)
  log = [event for batch in evaluation.log(db, 1) for event in batch.events]
  db.close()
  boxes = {event.i: event for event in log if isinstance(event, events.Box)}
  return boxes, [event for event in log if isinstance(event, kind)]


@pytest.mark.parametrize(('task', 'kind'), [('grid', events.On), ('icons', events.Put)])
def test_the_cursor_of_a_replay_is_where_it_was_clicked(tmp_path, chromium, task, kind):
  filled_study.make(tmp_path / 'study', task)
  boxes, clicks = _boxes_and_clicks(tmp_path / 'study', kind)
  assert len(clicks) >= 2
  with serving(tmp_path / 'study') as server:
    page = chromium.browser.new_page(viewport={'width': 1280, 'height': 720})
    page.set_default_timeout(PATIENCE)
    problems = []
    page.on('console', lambda message: problems.append(message.text))  # includes policy violations
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.goto(f'{server.url}/admin#{server.keys.admin}')
    page.get_by_role('link', name='Replay').first.click()
    words = ' selected' if task == 'grid' else ' placed on the image'
    for number, click in enumerate(clicks):
      page.locator('.entry', has_text=words).nth(number).click()
      cursor, slot = page.locator('.cursor').bounding_box(), getattr(click, 'i', 0)
      shown, was = page.locator('.shot').nth(slot).bounding_box(), boxes[slot]
      assert abs(shown['width'] / shown['height'] - was.w / was.h) < 0.01
      assert abs(cursor['x'] - shown['x'] - click.x * shown['width']) <= 0.5
      assert abs(cursor['y'] - shown['y'] - click.y * shown['height']) <= 0.5
    selected = page.locator('.shot.selected' if task == 'grid' else '.chip:not([hidden])')
    assert selected.count() == len(clicks)
    page.get_by_role('button', name='Reject').click()
    page.get_by_text('assigned again').wait_for()
    page.get_by_role('link', name='Overview').click()
    page.get_by_role('heading', name='0 of 2 answers').wait_for()
    assert problems == []
