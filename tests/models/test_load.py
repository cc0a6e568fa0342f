"""Pretrained weights: read from files, loaded into a model, exported."""

import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from configs import default
from luab_jax.errors import UserError
from luab_jax.models import build_model
from luab_jax.models.weights import files, load, timm_names
from tests import weight_files as by_hand
from tests.models.test_timm_names import abstract_variables, timm_resnet18, timm_vit_ti16
from tests.short_run import assert_same_bits
from tests.weight_files import ARRAYS

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('write', [by_hand.torch_zip, by_hand.torch_stream])
@pytest.mark.parametrize('wrapper', ['', 'state_dict', 'model_ema'])
def test_torch_files_are_read(tmp_path, write, wrapper):
  arrays = {**ARRAYS, 'turned': ARRAYS['a'].T.copy(order='F')}
  program = by_hand.state_dict(arrays)
  if wrapper:  # as saved by training scripts, with the epoch
    program = b'}(' + by_hand.text('epoch') + b'K\x03' + by_hand.text(wrapper) + program + b'u'
  write(tmp_path / 'w.pth', program, list(arrays.values()))
  found = files.read(tmp_path / 'w.pth')
  assert found.kind == 'pth' and found.arrays.keys() == arrays.keys()
  for name, value in arrays.items():
    assert found.arrays[name].dtype == value.dtype
    np.testing.assert_array_equal(found.arrays[name], value)


def checkpoint(entries):
  """Pickle instructions that push a training script's dict, from {key: instructions}."""
  return b'}(' + b''.join(by_hand.text(key) + value for key, value in entries.items()) + b'u'


ARGUMENTS = b'cargparse\nNamespace\n)\x81}(' + by_hand.text('lr') + b'K\x01ub'
OPTIMIZER = checkpoint({'state': b'}(K\x00' + by_hand.state_dict({'exp_avg': ARRAYS['a']}) + b'u'})


@pytest.mark.parametrize('write', [by_hand.torch_zip, by_hand.torch_stream])
@pytest.mark.parametrize('key', ['net', 'model', 'state_dict', 'model_state_dict', 'weights'])
def test_training_checkpoints_give_their_weights(tmp_path, write, key):
  program = checkpoint(
    {'args': ARGUMENTS, 'optimizer': OPTIMIZER, key: by_hand.state_dict(ARRAYS), 'epoch': b'K\x03'}
  )
  write(tmp_path / 'w.pth', program, list(ARRAYS.values()))
  found = files.read(tmp_path / 'w.pth')
  assert found.part == key and found.arrays.keys() == ARRAYS.keys()
  np.testing.assert_array_equal(found.arrays['a'], ARRAYS['a'])


def test_averaged_weights_come_first_and_unknown_networks_are_told(tmp_path):
  weights = by_hand.state_dict(ARRAYS)
  for keys, part in ((('model', 'model_ema'), 'model_ema'), (('net', 'discriminator'), 'net')):
    program = checkpoint(dict.fromkeys(keys, weights))
    by_hand.torch_zip(tmp_path / 'w.pth', program, list(ARRAYS.values()))
    assert files.read(tmp_path / 'w.pth').part == part
  program = checkpoint({'student': weights, 'teacher': weights})
  by_hand.torch_zip(tmp_path / 'w.pth', program, list(ARRAYS.values()))
  with pytest.raises(UserError, match=r'it holds several networks \(student, teacher\); give a'):
    files.read(tmp_path / 'w.pth')


def test_wrappers_of_all_names_are_removed(tmp_path):
  state = {k: v.astype('f4') for k, v in timm_resnet18(np.random.default_rng(0)).items()}
  config, variables = make('resnet18')
  for start, more in (
    ('model.', {}),
    ('net.module.', {}),
    ('module.', {'n_averaged': np.array(3)}),
  ):
    names = {f'{start}{name}': value for name, value in state.items()} | more
    safetensors.numpy.save_file(names, tmp_path / 'w.safetensors')
    found, _ = load.load_pretrained(tmp_path / 'w.safetensors', config, variables)
    assert_started(found, timm_names.convert(state, 'resnet18', variables).variables)


def test_numbers_of_8_bits_are_refused_in_one_line(tmp_path):
  state = {k: v.astype('f4') for k, v in timm_resnet18(np.random.default_rng(0)).items()}
  path = tmp_path / 'w.safetensors'
  header = {'conv1.weight': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}
  text = json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + bytes(4))
  with pytest.raises(UserError, match='conv1.weight has dtype F8_E4M3, expected 16, 32 or 64-bit'):
    load.load_pretrained(path, *make('resnet18'))
  safetensors.numpy.save_file(state | {'conv1.weight': np.ones((64, 3, 7, 7), 'i1')}, path)
  with pytest.raises(UserError, match='conv1.weight has dtype int8, expected 16, 32 or 64-bit'):
    load.load_pretrained(path, *make('resnet18'))
  storage = b'(' + by_hand.text('storage') + b'ctorch.storage\nUntypedStorage\n' + by_hand.text('0')
  tensor = b'ctorch._utils\n_rebuild_tensor_v3\n(' + storage + by_hand.text('cpu') + b'K\x04tQ'
  tensor += b'K\x00' + by_hand.numbers([4]) + by_hand.numbers([1])
  tensor += b'\x89}ctorch\nfloat8_e4m3fn\ntR'
  by_hand.torch_zip(tmp_path / 'w.pth', by_hand.ordered_dict({'a.b': tensor}), [np.zeros(4, 'i1')])
  assert files.read(tmp_path / 'w.pth').arrays['a.b'].dtype == ml_dtypes.float8_e4m3fn


@pytest.mark.parametrize(
  ('name', 'trained', 'now', 'notice'),
  [
    ('vit_ti16', None, 'spatial', 'the class token; the spatial head gives it the patches'),
    ('vit_ti16', None, 'linear', ''),
    ('vit_ti16', 'spatial', 'spatial', ''),
    ('vit_ti16', 'spatial', 'linear', 'the patches; the linear head gives it the class token'),
    ('vit_ti16', 'linear', 'spatial', 'the class token; the spatial head gives it the patches'),
    ('vit_ti16', 'linear', 'linear', ''),
    ('resnet18', 'spatial', 'linear', 'features pooled by attention; the linear head averages'),
    ('resnet18', None, 'spatial', ''),
  ],
)
def test_the_notice_about_the_classifier(tmp_path, name, trained, now, notice):
  state = {'resnet18': timm_resnet18, 'vit_ti16': timm_vit_ti16}[name](np.random.default_rng(0))
  metadata = {'head': trained, 'normalisation': 'imagenet'} if trained else {}
  state = {name: value.astype('f4') for name, value in state.items()}
  safetensors.numpy.save_file(state, tmp_path / 'w.safetensors', metadata)
  _, lines = load.load_pretrained(tmp_path / 'w.safetensors', *make(name, now))
  said = [line for line in lines if 'the classifier was trained on' in line]
  assert len(said) == bool(notice) and notice in ''.join(said)


def make(name, head='linear', normalisation='imagenet', classes=10):
  """(model config, abstract variables for 64 px)."""
  config = default.get_config().model
  config.update(name=name, head=head, dtype='float32', normalisation=normalisation)
  model = build_model(config, num_classes=classes, num_points=1, multi_label=False)
  return config, abstract_variables(model)


@pytest.fixture(scope='module')
def vit():
  """(state dict with timm's names, model config, abstract variables, the converted variables)."""
  state = {k: v.astype('f4') for k, v in timm_vit_ti16(np.random.default_rng(1)).items()}
  config, variables = make('vit_ti16', normalisation='half')
  return state, config, variables, timm_names.convert(state, 'vit_ti16', variables).variables


def assert_started(found, wanted):
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b) if isinstance(b, np.ndarray) else None,
    found,
    wanted,
  )


@pytest.mark.parametrize(
  ('big_vision', 'stacked', 'prefix'),
  [
    (False, False, ''),
    (False, False, 'opt/target/'),
    (True, False, 'params/'),
    (True, True, 'params/img/'),
  ],
)
def test_npz_of_augreg_and_big_vision_are_the_same_network(
  tmp_path, vit, big_vision, stacked, prefix
):
  state, config, variables, wanted = vit
  np.savez(
    tmp_path / 'w.npz',
    **by_hand.flax_names(state, 3, big_vision=big_vision, stacked=stacked, prefix=prefix),
  )
  found, lines = load.load_pretrained(tmp_path / 'w.npz', config, variables)
  assert_started(found, wanted)
  assert re.search(r'loaded 152 arrays, 5,\d+,\d+ values$', lines[0]), lines


def test_npz_expects_pictures_between_minus_one_and_one(tmp_path, vit):
  state, config, variables, _ = vit
  np.savez(tmp_path / 'w.npz', **by_hand.flax_names(state, 3, big_vision=False))
  config = config.copy_and_resolve_references()
  config.normalisation = 'imagenet'
  with pytest.raises(UserError, match='add --config.model.normalisation=half'):
    load.load_pretrained(tmp_path / 'w.npz', config, variables)


def test_position_embeddings_of_patches_alone_and_of_other_sizes(tmp_path, vit):
  """big_vision adds no position embedding to the class token: ours then has zeros there."""
  state, config, variables, wanted = vit
  patches = {**state, 'pos_embed': state['pos_embed'][:, 1:]}
  np.savez(tmp_path / 'w.npz', **by_hand.flax_names(patches, 3, big_vision=True))
  found, _ = load.load_pretrained(tmp_path / 'w.npz', config, variables)
  position = found['params']['backbone']['pos_embed']
  np.testing.assert_array_equal(position[:, 1:], state['pos_embed'][:, 1:])
  assert not position[:, 0].any()
  large = {**state, 'pos_embed': RNG.normal(size=(1, 197, 192)).astype('f4')}
  safetensors.numpy.save_file(large, tmp_path / 'w.safetensors')
  found, lines = load.load_pretrained(tmp_path / 'w.safetensors', config, variables)
  assert lines[0].endswith('position embeddings resized 14x14 -> 4x4')
  np.testing.assert_array_equal(
    found['params']['backbone']['pos_embed'],
    timm_names.resize_position_embeddings(large['pos_embed'], 17),
  )


def test_torch_vits_and_their_wrappers(tmp_path, vit):
  state, config, variables, wanted = vit
  for names in (
    by_hand.torchvision_names(state),
    {f'module._orig_mod.{k}': v for k, v in state.items()},
  ):
    by_hand.torch_zip(tmp_path / 'w.pth', by_hand.state_dict(names), list(names.values()))
    assert_started(load.load_pretrained(tmp_path / 'w.pth', config, variables)[0], wanted)
  assert sum(name in state for name in by_hand.torchvision_names(state)) == 0


def test_half_precision_becomes_float32_and_new_layers_are_listed(tmp_path):
  state = timm_resnet18(np.random.default_rng(0), classes=1000)
  state = {
    name: value.astype(ml_dtypes.bfloat16 if value.ndim > 1 else 'f2')
    for name, value in state.items()
  }
  by_hand.torch_zip(tmp_path / 'w.pth', by_hand.state_dict(state), list(state.values()))
  found, lines = load.load_pretrained(tmp_path / 'w.pth', *make('resnet18', 'spatial'))
  kernel = found['params']['backbone']['conv1']['kernel']
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel, state['conv1.weight'].astype('f4').transpose(2, 3, 1, 0))
  assert lines[1] == (
    '  new: the classifier (the file has 1000 classes, the data 10); the point layer (the file has '
    'none); skipped: fc.bias, fc.weight, 20 step counters of BatchNorm'
  )
  assert lines[0].startswith(f'init_from {tmp_path}/w.pth: loaded 100 arrays, 11,186,112 values')


def test_another_network_is_refused_in_one_line(tmp_path, vit):
  state = {k: v.astype('f4') for k, v in timm_resnet18(RNG).items()}
  safetensors.numpy.save_file(state, tmp_path / 'w.safetensors')
  for name in ('vit_ti16', 'resnet34', 'tiny_conv'):
    with pytest.raises(UserError) as error:
      load.load_pretrained(tmp_path / 'w.safetensors', *make(name))
    message = str(error.value)
    assert '\n' not in message and f'not the weights of a {name}' in message
    assert 'w.safetensors' in message and '--config.model.name' in message and len(message) < 500


@pytest.mark.parametrize(('name', 'head'), [('resnet18', 'spatial'), ('vit_ti16', 'linear')])
def test_exported_names_are_timms_and_the_round_trip_is_exact(tmp_path, name, head):
  wanted = {'resnet18': timm_resnet18, 'vit_ti16': timm_vit_ti16}[name](RNG)
  wanted = {k: v.astype('f4') for k, v in wanted.items() if not k.endswith('num_batches_tracked')}
  config, abstract = make(name, head)
  variables = jax.tree.map(lambda x: RNG.normal(size=x.shape).astype('f4'), abstract)
  model, points = timm_names.state_dicts(variables, name)
  assert {k: v.shape for k, v in model.items()} == {k: v.shape for k, v in wanted.items()}
  assert points.keys() == (
    {'attention.weight'} if head == 'spatial' else {'points.weight', 'points.bias'}
  )
  safetensors.numpy.save_file(model, tmp_path / 'w.safetensors')
  back, _ = load.load_pretrained(tmp_path / 'w.safetensors', config, abstract)
  back['params']['head'] |= {
    k: variables['params']['head'][k]
    for k in ('points', 'attention')
    if k in back['params']['head']
  }
  assert_same_bits(back, variables)
