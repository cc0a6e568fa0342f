"""Weight files that are damaged, hostile or of other kinds: a one-line error, no code is run."""

import zipfile

import numpy as np
import pytest
import safetensors.numpy

from luab_jax.errors import UserError
from luab_jax.models.weights import files
from tests import weight_files as by_hand
from tests.weight_files import ARRAYS

RNG = np.random.default_rng(0)


def hostile_programs(marker):
  """{words of the error: a hostile or damaged pickle program}."""
  command = by_hand.text(f'touch {marker}')
  a = ARRAYS['a']
  return {
    'refers to posix.system': b'cposix\nsystem\n(' + command + b'tR',
    'refers to os.system': by_hand.text('os')
    + by_hand.text('system')
    + b'\x93'
    + command
    + b'\x85R',
    'refers to builtins.eval': by_hand.ordered_dict({'a': b'cbuiltins\neval\n'}),
    'refers to posix.system, code': b'(' + command + b'iposix\nsystem\n',
    "'str' object is not callable": b'(ctorch\nFloatStorage\n' + command + b'o',
    'unregistered extension code 1': b'\x82\x01',
    'is damaged (TypeError': b'ctorch\nFloatStorage\n)R',
    'extends beyond': by_hand.ordered_dict({'a': by_hand.tensor('0', a, offset=1)}),
    'not completely in the file': by_hand.ordered_dict(
      {'a': by_hand.tensor('0', a, shape=(30000, 30000), strides=(0, 0))}
    ),
    'negative size': by_hand.ordered_dict({'a': by_hand.tensor('0', a, strides=(-3, 1))}),
    'no state dict': by_hand.text('hello'),
    # Tries to change the default arguments of our own rebuild function.
    'is damaged (AttributeError': b'ctorch._utils\n_rebuild_tensor_v2\nN}'
    + by_hand.text('__defaults__')
    + b')s\x86b',
    'is damaged (': b'R',
  }


@pytest.mark.parametrize('write', [by_hand.torch_zip, by_hand.torch_stream])
def test_hostile_torch_files_are_refused_in_one_line_and_not_run(tmp_path, write):
  marker = tmp_path / 'executed'
  for words, program in hostile_programs(marker).items():
    write(tmp_path / 'w.pth', program, [ARRAYS['a']] if b'FloatStorage' in program else [])
    with pytest.raises(UserError) as error:
      files.read(tmp_path / 'w.pth')
    message = str(error.value)
    assert words in message and '\n' not in message and message.startswith(str(tmp_path)), message
    assert len(message) < 400
  assert not marker.exists()


def test_the_hostile_file_would_run_if_it_were_unpickled(tmp_path):
  import pickle

  marker = tmp_path / 'executed'
  pickle.loads(b'\x80\x02' + hostile_programs(marker)['refers to posix.system'] + b'.')
  assert marker.exists()


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
  by_hand.torch_zip(tmp_path / 'zip', by_hand.state_dict(ARRAYS), list(ARRAYS.values()))
  by_hand.torch_stream(tmp_path / 'stream', by_hand.state_dict(ARRAYS), list(ARRAYS.values()))
  safetensors.numpy.save_file({'a': ARRAYS['a']}, tmp_path / 'safe')
  np.savez(tmp_path / 'n.npz', a=ARRAYS['a'], b=ARRAYS['c'])
  refused = 0
  for name in ('zip', 'stream', 'safe', 'n.npz'):
    intact = (tmp_path / name).read_bytes()
    for i in range(120):
      data = bytearray(intact)
      if i % 4:
        data[RNG.integers(len(data))] = RNG.integers(256)
      else:
        del data[RNG.integers(len(data)) :]
      (tmp_path / 'bad').write_bytes(data)
      try:
        arrays = files.read(tmp_path / 'bad').arrays
        assert len(arrays) <= 4
      except UserError as error:
        refused += 1
        assert '\n' not in str(error) and 'bad' in str(error)
  assert 120 < refused < 480


def test_other_files_are_refused_in_one_line(tmp_path):
  np.savez(tmp_path / 'objects.npz', a=np.array([{}], object))
  (tmp_path / 'text').write_text('hello, I am a network')
  with zipfile.ZipFile(tmp_path / 'zip', 'w') as archive:
    archive.writestr('readme.txt', 'x')
  for name, words in {
    'objects.npz': 'Object arrays cannot be loaded',
    'text': 'not a safetensors, .pth or .npz',
    'zip': "neither torch's",
    'absent': 'No such file',
  }.items():
    with pytest.raises(UserError, match=words) as error:
      files.read(tmp_path / name)
    assert name in str(error.value) and '\n' not in str(error.value)
