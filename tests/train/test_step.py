"""The training step gives the same result on 1, 4 and 8 devices, whole or in micro-batches."""

import jax
import numpy as np
import optax
import pytest

from luab_jax.evaluate.metrics import mean_metrics
from luab_jax.models import losses
from luab_jax.runtime import parallel
from luab_jax.train.optimizer import weight_decay_mask
from tests.short_run import assert_same_bits
from tests.small_models import apply
from tests.train.small_steps import (
  BATCH,
  assert_close,
  make_batch,
  make_model,
  map_loss,
  run,
  setup,
)

_AVERAGED = {'ema_decay': 0.5, 'on_nan': 'skip'}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'head', 'multi_label', 'options', 'devices'),
  [
    pytest.param('small_conv', 'spatial', False, _AVERAGED, 8, marks=pytest.mark.end_to_end),
    ('small_vit', 'linear', True, {}, 4),
  ],
)
def test_same_result_on_any_number_of_devices(name, head, multi_label, options, devices):
  state, train_step, _, classes, points = setup(name, head, multi_label=multi_label, **options)
  batch = make_batch(classes, points, multi_label)
  one_state, one_sums = run(train_step, state, batch, 1)
  for metric in ('click_error', 'map_loss'):
    assert one_sums[metric][1] == batch['point_mask'].sum() == 4
  other_state, other_sums = run(train_step, state, batch, devices)
  assert_close(one_sums, other_sums)
  # In the first step of plain SGD the update is 0.1 times the gradient: this compares gradients.
  assert_close(one_state, other_state)


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 2, 4, 8])
def test_shard_map_trains_as_pmap_does(devices):
  """In the first step of plain SGD, equal parameters mean equal gradients."""
  state, train_step, _, classes, points = setup(
    'small_conv', 'spatial', multi_label=False, **_AVERAGED
  )
  batch = make_batch(classes, points, False)
  mapped = parallel.shard_map_step(train_step, devices=jax.devices()[:devices])
  by_shard_map = run(train_step, state, batch, devices, mapped=mapped)
  assert_same_bits(by_shard_map, run(train_step, state, batch, devices))


@pytest.mark.slow
def test_loss_equals_a_formula_without_devices():
  state, train_step, _, classes, points = setup('small_vit', 'linear', multi_label=False)
  batch = make_batch(classes, points, False)
  _, sums = run(train_step, state, batch, 8)
  model = make_model('small_vit', 'linear', classes, points, False)
  output = apply(model, {'params': state.params}, batch['image'])
  logits = np.asarray(output['logits'], np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  cross_entropy = log_z - logits[np.arange(BATCH), batch['label']]
  error = np.abs(np.asarray(output['points'], np.float64) - batch['point'])
  smooth = np.where(error < 1, error**2 / 2, error - 0.5).mean(-1)
  mask = batch['point_mask'] * batch['example_mask'][:, None]
  expected = (cross_entropy * batch['example_mask']).sum() / batch['example_mask'].sum()
  expected += 3.0 * (smooth * mask).sum() / mask.sum()
  expected += 0.5 * (map_loss(output, batch) * mask).sum() / mask.sum()
  np.testing.assert_allclose(sums['loss'][0], expected, rtol=1e-5)
  assert (sums['point_weight'], sums['map_weight']) == ((3, 1), (0.5, 1))


@pytest.mark.slow
def test_dropped_branches_and_features_are_the_same_on_any_number_of_devices():
  options = {'multi_label': False, 'drop': 0.5}
  state, whole, _, classes, points = setup('small_vit', 'spatial', **options)
  parts = setup('small_vit', 'spatial', **options, accum=2)[1]
  batch = make_batch(classes, points, False)
  one = run(whole, state, batch, 1)
  assert_close(one, run(parts, state, batch, 4))
  # The same parameters, but the next step number.
  other = run(whole, state.replace(step=np.int32(1)), batch, 1)
  assert one[1]['loss'][0] != other[1]['loss'][0]


@pytest.mark.slow
def test_no_point_in_the_batch_is_no_nan():
  state, train_step, _, classes, points = setup('small_vit', 'linear', multi_label=False)
  new, sums = run(train_step, state, make_batch(classes, points, False, points='none'), 8)
  assert np.isfinite(sums['loss'][0])
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
  means = mean_metrics(sums, image_size=16)
  assert 'click_error' not in means and means['points_used'] == 0


@pytest.mark.slow
def test_micro_batches_add_up_to_the_whole_batch():
  state, whole, _, classes, points = setup('small_vit', 'linear', multi_label=False)
  _, parts, *_ = setup('small_vit', 'linear', multi_label=False, accum=4)
  batch = make_batch(classes, points, False)
  whole_state, whole_sums = run(whole, state, batch, 8)
  parts_state, parts_sums = run(parts, state, batch, 1)
  assert_close(whole_sums, parts_sums)
  assert_close(whole_state, parts_state)


def test_accumulation_compiles_forward_and_backward_once():
  products = []
  for accum in (1, 4):
    state, train_step, _, classes, points = setup(
      'small_vit', 'linear', multi_label=False, accum=accum
    )
    mapped = jax.vmap(train_step, axis_name=parallel.AXIS)
    arguments = jax.tree.map(
      lambda x: np.asarray(x)[None], (state, make_batch(classes, points, False))
    )
    products.append(str(jax.make_jaxpr(mapped)(*arguments)).count(' dot_general['))
  assert products[0] == products[1] > 10


@pytest.mark.slow
def test_evaluation_counts_each_example_once():
  state, _, eval_step, classes, points = setup('small_conv', 'spatial', multi_label=True)
  batch = make_batch(classes, points, True)
  mapped = parallel.map_step(eval_step)
  results = []
  for devices in (1, 8):
    variables = jax.tree.map(
      lambda x, n=devices: np.stack([np.asarray(x)] * n), state.eval_variables()
    )
    split = jax.tree.map(lambda x, n=devices: x.reshape(n, -1, *x.shape[1:]), batch)
    *both, outcomes = mapped(variables, split)
    sums, scores = jax.tree.map(lambda x: np.asarray(x)[0], both)
    scores, outcomes = jax.tree.map(
      lambda x: np.reshape(x, (BATCH, *x.shape[2:])), (scores, outcomes)
    )
    results.append((sums, scores, outcomes))
    assert sums['class_loss'][1] == 13
    np.testing.assert_array_equal(scores['label'], batch['label'])
    np.testing.assert_array_equal(scores['mask'], batch['example_mask'])
  assert_close(*results)


_ADAMW = {'optimizer': 'adamw', 'clip': 1.0, 'ema_decay': 0.5, 'on_nan': 'skip'}


@pytest.mark.slow
def test_training_brings_the_loss_down_and_ema_follows():
  state, train_step, _, classes, points = setup('small_vit', 'linear', multi_label=False, **_ADAMW)
  batch = make_batch(classes, points, False)
  _, first = run(train_step, state, batch, 4)
  new, last = run(train_step, state, batch, 4, repeat=7)
  assert last['loss'][0] < first['loss'][0]

  def distance(tree):
    parts = jax.tree.map(lambda a, b: np.square(a - b).sum(), tree, new.params)
    return sum(jax.tree.leaves(parts))

  assert 0 < distance(new.ema_params) < distance(state.params)
  assert new.eval_variables()['params'] is new.ema_params


@pytest.mark.slow
def test_parameters_and_statistics_are_averaged_as_timm_does():
  """As ModelEmaV2: every array of the model, including BatchNorm statistics; with decay warm-up."""
  state, train_step, _, classes, points = setup(
    'small_conv', 'spatial', multi_label=False, **_AVERAGED
  )
  batch = make_batch(classes, points, False)
  assert_same_bits(state.ema_batch_stats, state.batch_stats)

  def tracked(state):
    return {'params': state.params, 'batch_stats': state.batch_stats}

  expected = tracked(state)
  for step in range(11):  # decays of 0.1, 2/11, … up to 0.5
    state, _ = run(train_step, state, batch, 8)
    decay = min(0.5, (1 + step) / (10 + step))
    expected = jax.tree.map(
      lambda e, m, decay=decay: decay * e + (1 - decay) * m, expected, tracked(state)
    )
    assert_close(state.eval_variables(), expected, rtol=1e-5, atol=1e-6)
  differences = jax.tree.map(lambda e, m: np.abs(e - m).max(), expected, tracked(state))
  assert max(jax.tree.leaves(differences['batch_stats'])) > 1e-3
  again, sums = run(train_step, state, batch | {'image': batch['image'] * np.nan}, 8)
  assert sums['skipped'] == (1, 1)
  assert_same_bits(again.eval_variables(), state.eval_variables())


def test_decay_spares_norms_biases_and_embeddings():
  state, *_ = setup('small_vit', 'linear', multi_label=False)
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
  state, train_step, _, classes, points = setup('small_vit', 'linear', multi_label=False, **_ADAMW)
  batch = make_batch(classes, points, False)
  after, sums = run(train_step, state, batch, 4)
  assert sums['skipped'][0] == 0 and sums['loss'][1] == 1
  poisoned = batch | {'image': batch['image'].copy()}
  poisoned['image'][5, 0, 0, 0] = np.nan  # on one device only
  again, sums = run(train_step, after, poisoned, 4)
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

  # The learning rate schedule advances; everything else stays.
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
  # A skipped step is left out of every mean, not counted as zero.
  assert all(count == 0 for name, (_, count) in sums.items() if name != 'skipped')
