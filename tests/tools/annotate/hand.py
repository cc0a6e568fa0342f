"""A worker's pointer on an icons page."""

import math

import pytest
from playwright.sync_api import expect

from luab_jax.byproducts.coco_ab import CLASS_INDEX


class Hand:
  """A pointer that drags icons on a worker's page and records where it dropped them."""

  def __init__(self, worker):
    self.worker, self.page, self.done, self.has_touch = worker, worker.page, [], False
    self.cdp = worker.page.context.new_cdp_session(worker.page)

  def resize(self, width, height, scale, *, mobile=False):
    size = {'width': width, 'height': height, 'deviceScaleFactor': scale, 'mobile': mobile}
    self.cdp.send('Emulation.setDeviceMetricsOverride', size)

  def touch(self):
    self.cdp.send('Emulation.setTouchEmulationEnabled', {'enabled': True})
    self.has_touch = True

  def _send(self, kind, x, y):
    if self.has_touch:
      kind = {'mousePressed': 'touchStart', 'mouseMoved': 'touchMove', 'mouseReleased': 'touchEnd'}[
        kind
      ]
      points = [] if kind == 'touchEnd' else [{'x': x, 'y': y}]
      return self.cdp.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points})
    event = {'type': kind, 'x': x, 'y': y, 'button': 'left', 'clickCount': 1}
    held = {'buttons': 0 if kind == 'mouseReleased' else 1}
    return self.cdp.send('Input.dispatchMouseEvent', event | held)

  def middle(self, selector):
    left, top, width, height = self.worker.rect(self.page.locator(selector))
    return left + width / 2, top + height / 2

  def at(self, place):
    """A place on the image as a window point between whole pixels, and as (x, y, width, height).

    The latter are fractions of the image; width and height are tolerances of 0.1 CSS px.
    """
    left, top, width, height = self.worker.rect(self.page.locator('.stage'))
    x = math.floor(left + place[0] * width) + 0.73
    y = math.floor(top + place[1] * height) + 0.41
    return (x, y), ((x - left) / width, (y - top) / height, 0.1 / width, 0.1 / height)

  def drag(self, start, end):
    """Drags from one point of the window to another in ten moves."""
    if not self.has_touch:
      event = {'type': 'mouseMoved', 'x': start[0], 'y': start[1], 'button': 'none'}
      self.cdp.send('Input.dispatchMouseEvent', event)
    self._send('mousePressed', *start)
    for step in range(1, 11):
      x, y = ((a * (10 - step) + b * step) / 10 for a, b in zip(start, end, strict=True))
      self._send('mouseMoved', x, y)
    self._send('mouseReleased', *end)

  def click(self, x, y):
    self._send('mousePressed', x, y)
    self._send('mouseReleased', x, y)

  def expect(self, name, point, source=None):
    """Notes what must have been recorded and waits until the page shows it."""
    source = source or ('touch' if self.has_touch else 'mouse')
    self.done.append((CLASS_INDEX[name], source, point))
    marker = self.page.locator(icon(name))
    expect(marker).to_have_count(1 if point else 0)
    if point:
      (left, top, *_), stage = self.worker.rect(marker), self.worker.rect(marker.locator('..'))
      assert left == pytest.approx(stage[0] + point[0] * stage[2], abs=0.1)
      assert top == pytest.approx(stage[1] + point[1] * stage[3], abs=0.1)

  def put(self, name, place):
    """Drags an icon from its tab onto the image."""
    end, point = self.at(place)
    self.drag(self.middle(chip(name)), end)
    self.expect(name, point)

  def move(self, name, place):
    """Drags an icon that is on the image to another place on it."""
    end, point = self.at(place)
    self.drag(self.middle(f'{icon(name)} .disc'), end)
    self.expect(name, point)


def chip(name):
  return f'.chips.open .chip[data-c="{CLASS_INDEX[name]}"]'


def icon(name):
  return f'.icon[data-c="{CLASS_INDEX[name]}"]'


def practise(client):
  """Consents and submits an empty practice page; returns the first work page."""
  client.join()
  page = client.lease()
  client.call('events', client.batch(page['lease'], 0))
  client.call('submit', client.end(page['lease'], 0))
  return client.lease()


def ready(worker):
  expect(worker.page.locator('.stage')).to_have_attribute('data-state', 'ready')
