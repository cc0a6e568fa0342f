"""Starting the processes of a run: what a wrong environment variable is answered with."""

import pytest

from luab_jax.errors import UserError
from luab_jax.runtime import hosts


@pytest.mark.parametrize(
  ('address', 'count', 'index', 'message'),
  [
    ('localhost:1', '2', '2', 'JAX_PROCESS_ID=2 is not below JAX_NUM_PROCESSES=2: ids start at 0'),
    ('localhost:1', 'two', '0', 'must be integers too'),
    ('localhost', '2', '0', 'has no port: set host:port, such as localhost:12345'),
    ('localhost:', '2', '0', 'has no port: set host:port, such as localhost:12345'),
  ],
)
def test_wrong_process_numbers_are_one_clear_message(monkeypatch, address, count, index, message):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', address)
  monkeypatch.setenv('JAX_NUM_PROCESSES', count)
  monkeypatch.setenv('JAX_PROCESS_ID', index)
  with pytest.raises(UserError) as error:
    hosts.start_hosts()
  assert message in str(error.value) and '\n' not in str(error.value)
