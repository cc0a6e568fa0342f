"""The step is the same on 1, 2, 4 and 8 devices, in one piece or in micro-batches."""

import functools
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from configs import default
from luab_jax.evaluate.metrics import mean_metrics
from luab_jax.evaluate.steps import make_eval_step
from luab_jax.models import LuabModel, build_model, losses
from luab_jax.models.heads import LinearHead, SpatialHead
from luab_jax.models.vit import VisionTransformer
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import Schedules, make_optimizer, weight_decay_mask
from luab_jax.train.state import init_state
from luab_jax.train.step import make_train_step
from tests.short_run import assert_same_bits

LOSS = ml_collections.ConfigDict(
  dict(label_smoothing=0.0, point_loss='smooth_l1', smooth_l1_beta=1.0)
)
BATCH = 16


def _model(name, head, num_classes, num_points, multi_label, drop=0.0):
  if name == 'tiny_conv':
    config = default.get_config().model
    config.update(name=name, head=head, dtype='float32', sync_batch_norm=True)
    return build_model(
      config, num_classes=num_classes, num_points=num_points, multi_label=multi_label
    )
  # One block: compiling for several devices is what these tests spend their time on.
  if head == 'linear':
    head = LinearHead(num_classes, num_points, dropout=drop)
  else:
    head = SpatialHead(num_classes, num_points, multi_label, dropout=drop)
  return LuabModel(VisionTransformer(16, 1, 2, 8, drop_path=drop), head)


@functools.cache
def _setup(
  name,
  head,
  *,
  multi_label,
  accum=1,
  ema_decay=0.0,
  optimizer='sgd',
  clip=0.0,
  on_nan='stop',
  drop=0.0,
  mixup=0.0,
  cutmix=0.0,
):
  num_classes = 5
  num_points = num_classes if multi_label else 1
  spec = types.SimpleNamespace(multi_label=multi_label)
  model = _model(name, head, num_classes, num_points, multi_label, drop)
  config = default.get_config()
  config.loss.update(LOSS)
  config.on_nan = on_nan
  config.model.drop_path, config.model.dropout = drop, drop
  config.optimizer.name, config.optimizer.weight_decay = optimizer, 0.1
  config.optimizer.grad_clip_norm, config.optimizer.grad_accum_steps = clip, accum
  config.optimizer.ema_decay = ema_decay
  config.data.mixup_alpha, config.data.cutmix_alpha = mixup, cutmix
  schedules = Schedules(optax.constant_schedule(0.1), optax.constant_schedule(3.0))
  tx = make_optimizer(config, schedules.learning_rate)
  state = init_state(model, tx, seed=0, image_size=16, ema=bool(ema_decay))
  train_step = make_train_step(model, tx, schedules, spec, config)
  eval_step = make_eval_step(model, spec, LOSS)
  return jax.device_get(state), train_step, eval_step, num_classes, num_points


def _batch(num_classes, num_points, multi_label, points='rare'):
  rng = np.random.default_rng(0)
  if multi_label:
    label = rng.integers(0, 2, (BATCH, num_classes)).astype(np.float32)
  else:
    label = rng.integers(0, num_classes, BATCH).astype(np.int32)
  mask = np.zeros((BATCH, num_points), np.float32)
  if points == 'rare':
    # All on the first two of eight devices, three on one and one on the other.
    mask.reshape(-1)[:2] = 1
    mask[2, 0] = 1
    mask[3, -1] = 1
  example_mask = np.ones(BATCH, np.float32)
  example_mask[-3:] = 0
  point = rng.random((BATCH, num_points, 2)).astype(np.float32) * mask[..., None]
  image = rng.normal(size=(BATCH, 16, 16, 3)).astype(np.float32)
  return dict(image=image, label=label, point=point, point_mask=mask, example_mask=example_mask)


_mapped = functools.cache(parallel.map_step)  # compiled once for all tests


def _run(function, tree, batch, devices, repeat=1, mapped=None):
  """Runs a step on the first `devices` devices and returns host copies of its results."""
  mapped = mapped or _mapped(function)
  tree = jax.tree.map(lambda x: np.stack([np.asarray(x)] * devices), tree)
  batch = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
  for _ in range(repeat):
    tree, sums = mapped(tree, batch)
  for leaf in jax.tree.leaves((tree, sums)):  # every device holds the same
    leaf = np.asarray(leaf)
    np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
  return jax.tree.map(lambda x: np.asarray(x)[0], (tree, sums))


def _assert_close(left, right, rtol=2e-4, atol=2e-6):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), left, right)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'head', 'multi_label', 'counts'),
  [('tiny_conv', 'spatial', False, (2, 8)), ('small_vit', 'linear', True, (4,))],
)
def test_same_result_on_any_number_of_devices(name, head, multi_label, counts):
  state, train_step, _, classes, points = _setup(name, head, multi_label=multi_label)
  batch = _batch(classes, points, multi_label)
  one_state, one_sums = _run(train_step, state, batch, 1)
  assert one_sums['click_error'][1] == batch['point_mask'].sum() == 4
  for devices in counts:
    other_state, other_sums = _run(train_step, state, batch, devices)
    _assert_close(one_sums, other_sums)
    # Plain SGD's first step: the update is the gradient times 0.1, so this compares gradients.
    _assert_close(one_state, other_state)


@pytest.mark.slow
def test_shard_map_trains_as_pmap_does():
  """Plain SGD's first step: equal parameters are equal gradients."""
  state, train_step, _, classes, points = _setup('tiny_conv', 'spatial', multi_label=False)
  batch = _batch(classes, points, False)
  for devices in (1, 2, 4, 8):
    mapped = parallel.shard_map_step(train_step, devices=jax.devices()[:devices])
    by_shard_map = _run(train_step, state, batch, devices, mapped=mapped)
    by_pmap = _run(train_step, state, batch, devices)
    jax.tree.map(np.testing.assert_array_equal, by_shard_map, by_pmap)


@pytest.mark.slow
def test_loss_equals_a_formula_without_devices():
  state, train_step, _, classes, points = _setup('small_vit', 'linear', multi_label=False)
  batch = _batch(classes, points, False)
  _, sums = _run(train_step, state, batch, 8)
  model = _model('small_vit', 'linear', classes, points, False)
  output = model.apply({'params': state.params}, batch['image'], train=False)
  logits = np.asarray(output['logits'], np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  cross_entropy = log_z - logits[np.arange(BATCH), batch['label']]
  error = np.abs(np.asarray(output['points'], np.float64) - batch['point'])
  smooth = np.where(error < 1, error**2 / 2, error - 0.5).mean(-1)
  mask = batch['point_mask'] * batch['example_mask'][:, None]
  expected = (cross_entropy * batch['example_mask']).sum() / batch['example_mask'].sum()
  expected += 3.0 * (smooth * mask).sum() / mask.sum()
  np.testing.assert_allclose(sums['loss'][0], expected, rtol=1e-5)


@pytest.mark.slow
def test_dropped_branches_and_features_are_the_same_on_any_number_of_devices():
  setup = functools.partial(_setup, 'small_vit', 'spatial', multi_label=False)
  state, plain, _, classes, points = setup()
  _, dropping, *_ = setup(drop=0.5)
  batch = _batch(classes, points, False)
  one_state, one_sums = _run(dropping, state, batch, 1)
  _assert_close((one_state, one_sums), _run(dropping, state, batch, 4))
  _assert_close((one_state, one_sums), _run(setup(drop=0.5, accum=2)[1], state, batch, 1))
  again = _run(dropping, one_state, batch, 1)[1]
  assert one_sums['loss'][0] != _run(plain, state, batch, 1)[1]['loss'][0] != again['loss'][0]


@pytest.mark.slow
def test_no_point_in_the_batch_is_no_nan():
  state, train_step, _, classes, points = _setup('small_vit', 'linear', multi_label=False)
  new, sums = _run(train_step, state, _batch(classes, points, False, points='none'), 8)
  assert np.isfinite(sums['loss'][0])
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
  means = mean_metrics(sums, image_size=16)
  assert 'click_error' not in means and means['points_used'] == 0


@pytest.mark.slow
def test_micro_batches_add_up_to_the_whole_batch():
  state, whole, _, classes, points = _setup('small_vit', 'linear', multi_label=False)
  _, parts, *_ = _setup('small_vit', 'linear', multi_label=False, accum=4)
  batch = _batch(classes, points, False)
  whole_state, whole_sums = _run(whole, state, batch, 8)
  parts_state, parts_sums = _run(parts, state, batch, 1)
  _assert_close(whole_sums, parts_sums)
  _assert_close(whole_state, parts_state)


def test_accumulation_compiles_forward_and_backward_once():
  products = []
  for accum in (1, 4):
    state, train_step, _, classes, points = _setup(
      'small_vit', 'linear', multi_label=False, accum=accum
    )
    mapped = jax.vmap(train_step, axis_name=parallel.AXIS)
    arguments = jax.tree.map(lambda x: np.asarray(x)[None], (state, _batch(classes, points, False)))
    products.append(str(jax.make_jaxpr(mapped)(*arguments)).count(' dot_general['))
  assert products[0] == products[1] > 10


@pytest.mark.slow
def test_evaluation_counts_each_example_once():
  state, _, eval_step, classes, points = _setup('tiny_conv', 'spatial', multi_label=True)
  batch = _batch(classes, points, True)
  mapped = parallel.map_step(eval_step)
  results = []
  for devices in (1, 8):
    variables = jax.tree.map(
      lambda x, n=devices: np.stack([np.asarray(x)] * n), state.eval_variables()
    )
    split = jax.tree.map(lambda x, n=devices: x.reshape(n, -1, *x.shape[1:]), batch)
    sums, scores = jax.tree.map(lambda x: np.asarray(x)[0], mapped(variables, split))
    scores = jax.tree.map(lambda x: x.reshape(BATCH, *x.shape[2:]), scores)
    results.append((sums, scores))
    assert sums['class_loss'][1] == 13
    np.testing.assert_array_equal(scores['label'], batch['label'])
    np.testing.assert_array_equal(scores['mask'], batch['example_mask'])
  _assert_close(*results)


@pytest.mark.slow
def test_training_brings_the_loss_down_and_ema_follows():
  state, train_step, _, classes, points = _setup(
    'small_vit', 'spatial', multi_label=False, ema_decay=0.5, optimizer='adamw', clip=1.0
  )
  batch = _batch(classes, points, False)
  _, first = _run(train_step, state, batch, 1)
  new, last = _run(train_step, state, batch, 1, repeat=6)
  assert last['loss'][0] < first['loss'][0]
  distance = optax.global_norm(jax.tree.map(jnp.subtract, new.ema_params, new.params))
  start = optax.global_norm(jax.tree.map(jnp.subtract, state.params, new.params))
  assert 0 < distance < start
  assert new.eval_variables()['params'] is new.ema_params


@pytest.mark.slow
def test_parameters_and_statistics_are_averaged_as_timm_does():
  """ModelEmaV2: every array of the model's state, BatchNorm's buffers too; decay warmed up."""
  state, train_step, _, classes, points = _setup(
    'tiny_conv', 'linear', multi_label=False, ema_decay=0.5, on_nan='skip'
  )
  batch = _batch(classes, points, False)
  assert_same_bits(state.ema_batch_stats, state.batch_stats)

  def tracked(state):
    return {'params': state.params, 'batch_stats': state.batch_stats}

  expected = tracked(state)
  for step in range(11):  # of a decay of 0.1, 2/11, … up to 0.5
    state, _ = _run(train_step, state, batch, 2)
    decay = min(0.5, (1 + step) / (10 + step))
    expected = jax.tree.map(
      lambda e, m, decay=decay: decay * e + (1 - decay) * m, expected, tracked(state)
    )
    _assert_close(state.eval_variables(), expected, rtol=1e-5, atol=1e-6)
  differences = jax.tree.map(lambda e, m: np.abs(e - m).max(), expected, tracked(state))
  assert max(jax.tree.leaves(differences['batch_stats'])) > 1e-3
  again, sums = _run(train_step, state, batch | {'image': batch['image'] * np.nan}, 2)
  assert sums['skipped'] == (1, 1)
  assert_same_bits(again.eval_variables(), state.eval_variables())


def test_decay_spares_norms_biases_and_embeddings():
  state, *_ = _setup('small_vit', 'linear', multi_label=False)
  flat = jax.tree_util.tree_flatten_with_path(weight_decay_mask(state.params))[0]
  names = {jax.tree_util.keystr(path, simple=True, separator='/'): on for path, on in flat}
  decayed = {name for name, on in names.items() if on}
  assert decayed and all(name.endswith('kernel') for name in decayed)
  spared = ' '.join(set(names) - decayed)
  assert 'bias' in spared and 'scale' in spared


def test_point_weight_enters_the_loss_by_schedule():
  warm = losses.point_weight_schedule('warmup', 4.0, total_steps=100, warmup_steps=10)
  assert [float(warm(s)) for s in (0, 5, 10, 50)] == pytest.approx([0, 2, 4, 4])


def test_replicate_and_fetch_round_trip_without_sharing_memory():
  tree = {'a': np.arange(6.0, dtype=np.float32).reshape(2, 3), 'b': np.int32(7)}
  replicated = parallel.replicate(tree)
  assert replicated['a'].shape == (8, 2, 3)
  fetched = parallel.fetch(replicated)
  double = jax.pmap(lambda t: jax.tree.map(lambda x: x * 2, t), donate_argnums=0)
  double(replicated)['a'].block_until_ready()
  np.testing.assert_array_equal(fetched['a'], tree['a'])
  assert fetched['b'] == 7


def test_prefetch_keeps_order_and_loses_nothing():
  batches = [{'x': np.full((16, 2), i, np.float32)} for i in range(5)]
  seen = [int(b['x'][0, 0, 0]) for b in parallel.prefetch(iter(batches))]
  assert seen == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_skipped_on_all_devices():
  state, train_step, _, classes, points = _setup(
    'small_vit', 'linear', multi_label=False, ema_decay=0.5, optimizer='adamw', on_nan='skip'
  )
  batch = _batch(classes, points, False)
  after, sums = _run(train_step, state, batch, 4)
  assert sums['skipped'][0] == 0 and sums['loss'][1] == 1
  poisoned = batch | {'image': batch['image'].copy()}
  poisoned['image'][5, 0, 0, 0] = np.nan  # on one device alone
  again, sums = _run(train_step, after, poisoned, 4)
  assert int(again.step) == int(after.step) + 1 == 2

  def counts(tree):
    found = []
    jax.tree.map(
      lambda node: found.append(int(node.count)) if scheduled(node) else None,
      tree,
      is_leaf=scheduled,
    )
    return found

  def scheduled(node):
    return isinstance(node, optax.ScaleByScheduleState)

  # The learning rate goes on with the steps, all else stays.
  assert (counts(after.opt_state), counts(again.opt_state)) == ([1], [2])
  same = jax.tree.map(
    lambda old, new: old if scheduled(old) else new,
    after.opt_state,
    again.opt_state,
    is_leaf=scheduled,
  )
  jax.tree.map(
    np.testing.assert_array_equal, again.replace(step=0, opt_state=same), after.replace(step=0)
  )
  assert sums['skipped'] == (1, 1)
  # Left out of every mean, not counted as zero.
  assert all(count == 0 for name, (_, count) in sums.items() if name != 'skipped')
