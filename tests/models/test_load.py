"""Pretrained weights: read, refused if hostile, loaded into a model, exported."""

import json
import os
import re
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from configs import default, mini_release
from luab_jax.errors import UserError
from luab_jax.models import build_model
from luab_jax.models.weights import files, load, timm_names
from luab_jax.runtime.workdir import prepare_workdir, write_json
from luab_jax.tools import export
from luab_jax.train import loop
from luab_jax.train.experiment import Experiment
from tests import weight_files as by_hand
from tests.models.test_timm_names import abstract_variables, timm_resnet18, timm_vit_ti16
from tests.short_run import assert_same_bits, short_config

RNG = np.random.default_rng(0)
ARRAYS = {
  'a': RNG.normal(size=(2, 3)).astype('f4'),
  'b': RNG.normal(size=5).astype('f2'),
  'c': RNG.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
  'n.num_batches_tracked': np.array(7),
}


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
  """Instructions that push the dict of a training script, {key: instructions}."""
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
  with pytest.raises(UserError, match='conv1.weight is of F8_E4M3, expected floating point'):
    load.load_pretrained(path, *make('resnet18'))
  safetensors.numpy.save_file(state | {'conv1.weight': np.ones((64, 3, 7, 7), 'i1')}, path)
  with pytest.raises(UserError, match='conv1.weight is of int8, expected floating point'):
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


def hostile_programs(marker):
  """{what it tries: a pickle that would do it}."""
  command = by_hand.text(f'touch {marker}')
  a = ARRAYS['a']
  return {
    'names the code posix.system': b'cposix\nsystem\n(' + command + b'tR',
    'names the code os.system': by_hand.text('os')
    + by_hand.text('system')
    + b'\x93'
    + command
    + b'\x85R',
    'names the code builtins.eval': by_hand.ordered_dict({'a': b'cbuiltins\neval\n'}),
    'names the code posix.system, which': b'(' + command + b'iposix\nsystem\n',
    "'str' object is not callable": b'(ctorch\nFloatStorage\n' + command + b'o',
    'unregistered extension code 1': b'\x82\x01',
    'is damaged (TypeError': b'ctorch\nFloatStorage\n)R',
    'reaches over': by_hand.ordered_dict({'a': by_hand.tensor('0', a, offset=1)}),
    'not all in the file': by_hand.ordered_dict(
      {'a': by_hand.tensor('0', a, shape=(30000, 30000), strides=(0, 0))}
    ),
    'negative size': by_hand.ordered_dict({'a': by_hand.tensor('0', a, strides=(-3, 1))}),
    'no state dict': by_hand.text('hello'),
    # Other code in place of ours, under the name that stands for it.
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
  pickle.loads(b'\x80\x02' + hostile_programs(marker)['names the code posix.system'] + b'.')
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
    'text': 'no safetensors, .pth or .npz',
    'zip': 'neither of torch',
    'absent': 'No such file',
  }.items():
    with pytest.raises(UserError, match=words) as error:
      files.read(tmp_path / name)
    assert name in str(error.value) and '\n' not in str(error.value)


def make(name, head='linear', normalisation='imagenet', classes=10):
  """(model part of a config, abstract variables for 64 px)"""
  config = default.get_config().model
  config.update(name=name, head=head, dtype='float32', normalisation=normalisation)
  model = build_model(config, num_classes=classes, num_points=1, multi_label=False)
  return config, abstract_variables(model)


@pytest.fixture(scope='module')
def vit():
  """(state dict in timm's names, what it is in our variables)"""
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
  assert re.search(r'152 arrays of 5,\d+,\d+ numbers loaded$', lines[0]), lines


def test_npz_expects_pictures_between_minus_one_and_one(tmp_path, vit):
  state, config, variables, _ = vit
  np.savez(tmp_path / 'w.npz', **by_hand.flax_names(state, 3, big_vision=False))
  config = config.copy_and_resolve_references()
  config.normalisation = 'imagenet'
  with pytest.raises(UserError, match='add --config.model.normalisation=half'):
    load.load_pretrained(tmp_path / 'w.npz', config, variables)


def test_position_embeddings_of_patches_alone_and_of_other_sizes(tmp_path, vit):
  """big_vision adds no position to the class token: ours then has zeros there."""
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
    '  new: the classifier (the file has 1000 classes, the data 10); the point layer (it has none '
    'there); skipped: fc.bias, fc.weight, 20 step counters of BatchNorm'
  )
  assert lines[0].startswith(f'init_from {tmp_path}/w.pth: 100 arrays of 11,186,112 numbers')


def test_another_network_is_refused_in_one_line(tmp_path, vit):
  state = {k: v.astype('f4') for k, v in timm_resnet18(RNG).items()}
  safetensors.numpy.save_file(state, tmp_path / 'w.safetensors')
  for name in ('vit_ti16', 'resnet34', 'tiny_conv'):
    with pytest.raises(UserError) as error:
      load.load_pretrained(tmp_path / 'w.safetensors', *make(name))
    message = str(error.value)
    assert '\n' not in message and f'not the weights of a {name}' in message
    assert 'w.safetensors' in message and '--config.model.name' in message and len(message) < 500


def fresh(config, workdir):
  """(run, state, open checkpoints) as train.py starts one."""
  run, checkpoints = Experiment(config), loop.open_checkpoints(workdir, config)
  state, metadata = run.init_or_restore(checkpoints)
  return run, state, metadata, checkpoints


@pytest.mark.slow
@pytest.mark.parametrize('ema_decay', [0.0, 0.9])
def test_a_run_starts_from_an_export_and_later_from_its_own_checkpoint(
  tmp_path, synthetic_imagenet_ab, ema_decay
):
  config = short_config(synthetic_imagenet_ab)
  config.optimizer.ema_decay = ema_decay
  run, state, _, checkpoints = fresh(config, tmp_path / 'first')
  assert run.loaded == []
  params, batch_stats = jax.tree.map(lambda x: x + 1, (state.params, state.batch_stats))
  state = state.replace(step=np.int32(5), params=params, batch_stats=batch_stats)
  metadata = {'step': 5, 'dataset': run.spec._asdict(), 'config': config.to_dict()}
  checkpoints.save(5, state, metadata)
  checkpoints.close()
  folder = export.export(tmp_path / 'first')
  assert sorted(os.listdir(folder)) == [
    '.written.json',
    'README.md',
    'classes.json',
    'model.safetensors',
    'point_head.safetensors',
  ]
  assert 'timm has no tiny_conv' in (folder / 'README.md').read_text()

  config.init_from, config.seed = str(folder / 'model.safetensors'), 1
  run, started, _, checkpoints = fresh(config, tmp_path / 'second')
  exported = state.ema_params if ema_decay else state.params
  statistics = state.ema_batch_stats if ema_decay else state.batch_stats
  assert_same_bits(started.params['backbone'], exported['backbone'])
  assert_same_bits(started.params['head']['classifier'], exported['head']['classifier'])
  assert_same_bits(started.batch_stats, statistics)
  assert_same_bits(started.ema_params, started.params if ema_decay else {})
  assert_same_bits(started.ema_batch_stats, started.batch_stats if ema_decay else {})
  assert 'new: the point layer' in run.loaded[1] and int(started.step) == 0
  changed = started.replace(step=np.int32(3), params=jax.tree.map(lambda x: x * 2, started.params))
  checkpoints.save(3, changed, metadata)
  checkpoints.close()
  (folder / 'model.safetensors').unlink()  # not needed any more
  run, resumed, _, checkpoints = fresh(config, tmp_path / 'second')
  checkpoints.close()
  assert_same_bits(resumed.params, changed.params)
  assert run.loaded == [] and int(resumed.step) == 3
  with pytest.raises(UserError, match='model.safetensors'):
    fresh(config, tmp_path / 'third')


@pytest.mark.slow
def test_resuming_with_other_weights_is_refused(tmp_path, synthetic_imagenet_ab):
  config = short_config(synthetic_imagenet_ab)
  prepare_workdir(tmp_path, config)
  config.init_from = 'w.safetensors'
  with pytest.raises(UserError, match=r'init_from \(there , here w.safetensors\)'):
    prepare_workdir(tmp_path, config)


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


@pytest.mark.parametrize('evaluated', [True, False])
def test_the_model_card_has_metrics_and_usage(tmp_path, evaluated):
  config = mini_release.get_config()
  config.model.normalisation = 'half'
  head = {
    'classifier': {'kernel': np.ones((512, 2), 'f4'), 'bias': np.zeros(2, 'f4')},
    'attention': {'kernel': np.ones((512, 1), 'f4')},
  }
  backbone = {'conv1': {'kernel': RNG.normal(size=(7, 7, 3, 64)).astype('f4')}}
  checkpoints = loop.open_checkpoints(tmp_path, config)
  checkpoints.save(
    7,
    {
      'step': np.int32(7),
      'params': {'backbone': backbone, 'head': head},
      'batch_stats': {},
      'ema_params': {},
    },
    {'dataset': {'class_names': ['raccoon', 'kangaroo']}, 'config': config.to_dict()},
  )
  checkpoints.close()
  write_json(
    tmp_path / 'summary.json',
    {'step': 7 if evaluated else 6, 'results': {'validation': {'top1': 0.8125, 'note': 'x'}}},
  )
  folder = export.export(tmp_path)
  card = (folder / 'README.md').read_text()
  assert ('| validation | top1 | 0.8125 |' in card) == evaluated
  assert ('None: this step was not evaluated' in card) == (not evaluated)
  for words in (
    "timm.create_model('resnet18', num_classes=2,",
    '(0.5, 0.5, 0.5)',
    '64 x 64',
    'einsum',
    'attention.weight [1, 512]',
    '"learning_rate": 0.02',
    'non-commercial',
  ):
    assert words in card, words
  with safetensors.safe_open(folder / 'model.safetensors', framework='np') as file:
    assert file.metadata()['normalisation'] == 'half'
    np.testing.assert_array_equal(
      file.get_tensor('conv1.weight'), backbone['conv1']['kernel'].transpose(3, 2, 0, 1)
    )
    assert set(file.keys()) == {'conv1.weight', 'fc.weight', 'fc.bias'}
