"""Starting the processes of a run, errors of wrong environment variables, and lost processes."""

import jax
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


_RUNTIME = jax.errors.JaxRuntimeError


@pytest.mark.parametrize(
  'error',
  [
    ValueError('UNKNOWN: Gloo all-reduce failed: [pair.cc:538] Read error: reset by peer'),
    ValueError('UNKNOWN: Gloo AllGather failed: [pair.cc:547] Connection closed by peer [::1]:1'),
    _RUNTIME('UNKNOWN: Gloo collective permute failed: [pair.cc:547] Connection closed by peer'),
    _RUNTIME('FAILED_PRECONDITION: Buffer Definition Event: Gloo all-reduce failed: timed out'),
    _RUNTIME('DEADLINE_EXCEEDED: Barrier timed out. Id: step::0. # of tasks: 1/2.'),
    _RUNTIME('UNAVAILABLE: failed to connect to all addresses'),
    _RUNTIME('INTERNAL: NCCL operation failed: remote process exited or there was a network error'),
    _RUNTIME('ABORTED: task:1 unexpectedly tried to connect with a different incarnation.'),
  ],
)
def test_a_lost_peer_is_known_by_what_the_runtime_says(error):
  assert hosts.is_process_loss(error)


@pytest.mark.parametrize(
  'error',
  [
    _RUNTIME('RESOURCE_EXHAUSTED: Out of memory allocating 70368744177664 bytes.'),
    ValueError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes'),
    _RUNTIME(
      'INTERNAL: NCCL operation ncclCommInitRank failed: unhandled cuda error (out of memory)'
    ),
    _RUNTIME('INVALID_ARGUMENT: Disallowed host-to-device transfer'),
    _RUNTIME('INTERNAL: Failed to load PTX'),
    ValueError('NHWC: expected four dimensions'),
    ValueError('UNAVAILABLE: a class of this name'),
    OSError('UNKNOWN: Connection reset by peer'),
  ],
)
def test_another_error_of_one_of_several_processes_is_raised_as_itself(monkeypatch, capfd, error):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(type(error)) as raised, hosts.exit_on_process_loss():
    raise error
  assert raised.value is error and 'lost' not in capfd.readouterr().err
