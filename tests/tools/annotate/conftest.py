"""A browser for the tests of a module."""

import pytest
from playwright.sync_api import sync_playwright

from tests.tools.annotate.browser import Chromium


@pytest.fixture(scope='module')
def playwright():
  with sync_playwright() as started:
    yield started


@pytest.fixture(scope='module')
def chromium(playwright, tmp_path_factory):
  started = Chromium(playwright, tmp_path_factory.mktemp('profile'))
  yield started
  started.kill()
