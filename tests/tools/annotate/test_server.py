"""The way of a worker through a study, against a server in a process of its own."""

import pytest

from tests.tools.annotate.serving import make_study, serving


@pytest.fixture(scope='module')
def two_pages(tmp_path_factory):
  """A server of a study with two pages of four images, two pages a worker."""
  folder = make_study(tmp_path_factory.mktemp('two'), '--pages_per_worker=2', '--workers=1')
  with serving(folder) as server:
    yield server


def test_a_worker_goes_from_consent_to_a_code(two_pages):
  client = two_pages.client()
  session = client.join()
  assert len(session['worker']) == 10 and not session['practice_done']
  page = client.practise()
  assert (page['kind'], page['number'], page['of'], page['next_seq']) == ('work', 1, 2, 0)
  assert page['class']['name'] in ('cat', 'dog') and len(page['images']) == 4
  for number in (1, 2):
    assert page['number'] == number
    client.do_page(page)
    page = client.lease()
  assert page['done'] and len(page['code']) == 8
  assert client.lease() == page  # again, the same code
