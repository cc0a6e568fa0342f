"""A browser, a server of the module's study, and a worker's tab."""

import pytest
from playwright.sync_api import sync_playwright

from tests.tools.annotate.browser import Chromium, Worker
from tests.tools.annotate.serving import serving


@pytest.fixture(scope='module')
def playwright():
  with sync_playwright() as started:
    yield started


@pytest.fixture(scope='module')
def chromium(playwright, tmp_path_factory):
  started = Chromium(playwright, tmp_path_factory.mktemp('profile'))
  yield started
  started.kill()


@pytest.fixture(scope='module')
def server(study):
  """A server of the module's fixture `study`; `links` iterates over personal link tokens."""
  with serving(study) as server:
    server.links = iter(server.keys.personal.values())
    yield server


@pytest.fixture
def context(chromium):
  context = chromium.browser.new_context(viewport={'width': 1280, 'height': 800})
  yield context
  context.close()


@pytest.fixture
def worker(context, server):
  """A worker's tab, which must contact no other server and keep to the security policy."""
  worker = Worker(context, server)
  yield worker
  assert worker.wrong == []
