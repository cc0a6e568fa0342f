"""A browser, and a server of its study, for the tests of a module."""

import pytest
from playwright.sync_api import sync_playwright

from tests.tools.annotate.browser import Chromium
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
  """A server of the module's fixture `study`; `links` gives the tokens of its personal links."""
  with serving(study) as server:
    server.links = iter(server.keys.personal.values())
    yield server
