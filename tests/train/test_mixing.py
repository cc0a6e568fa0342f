"""MixUp and CutMix: which pixels and targets are mixed in which proportion, on any devices."""

import functools

import jax
import numpy as np
import pytest
from scipy import special, stats

from configs import default
from luab_jax.train import mixing
from tests import painted_data
from tests.small_models import apply
from tests.train import small_steps

SIZE = 32


def config(mixup, cutmix):
  result = default.get_config()
  result.data.mixup_alpha, result.data.cutmix_alpha = mixup, cutmix
  return result


def dots(count):
  """A batch of f32 images: 1 on a dot at the first of two points, else 0; the second is masked."""
  rng = np.random.default_rng(0)
  point = rng.uniform(0.1, 0.9, (count, 2, 2)).astype(np.float32) * [[[1.0], [0.0]]]
  images = [painted_data.paint(SIZE, SIZE, p[:1], radius=1.0) > 99 for p in point]
  return {
    'image': np.stack(images).astype(np.float32),
    'label': np.arange(count, dtype=np.int32),
    'point': point.astype(np.float32),
    'point_mask': np.tile(np.float32([1, 0]), (count, 1)),
    'example_mask': np.ones(count, np.float32),
  }


@functools.cache
def _compiled(mixup, cutmix):
  return jax.jit(functools.partial(mixing.mix, config(mixup, cutmix)))


def mixed(batch, step, mixup=0.0, cutmix=0.0):
  return jax.device_get(_compiled(mixup, cutmix)(batch, step))


def swapped(x):
  return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def test_mixup_blends_neighbours_and_keeps_both_targets():
  batch = dots(6)
  result, again, other = (mixed(batch, step, mixup=0.8) for step in (3, 3, 4))
  share = result['example_mask'][0]
  assert 0 < share < 1 and share == again['example_mask'][0] != other['example_mask'][0]
  blend = share * batch['image'] + (1 - share) * swapped(batch['image'])
  np.testing.assert_allclose(result['image'], blend, atol=1e-6)
  partner = result.pop('partner')
  for name in ('label', 'point', 'point_mask'):
    np.testing.assert_array_equal(result[name], batch[name])
    np.testing.assert_array_equal(partner[name], swapped(batch[name]))
  np.testing.assert_allclose(partner['example_mask'], 1 - share, atol=1e-6)


@pytest.mark.slow
def test_cutmix_masks_the_point_pasted_over_and_keeps_the_pasted_one():
  batch = dots(8)
  hidden = pasted = 0
  for step in range(12):
    result = mixed(batch, step, cutmix=1.0)
    partner = result['partner']
    own = (result['image'] == batch['image']).all(axis=(0, -1))  # pixels that were not replaced
    share = result['example_mask'][0]
    assert 0 <= share <= 1 and own.mean() >= share - 1e-6
    for i in range(8):
      for targets, source in ((result, i), (partner, i ^ 1)):
        x, y = (batch['point'][source, 0] * SIZE).astype(int)
        # A dot is visible if and only if its point is not masked.
        shown = result['image'][i, y, x, 0] == 1
        other = batch['image'][source ^ 1, y, x, 0] == 1  # both dots are at the same place
        assert shown == bool(targets['point_mask'][i, 0]) or other
        assert targets['point_mask'][i, 1] == 0
    hidden += (result['point_mask'][:, 0] == 0).sum()
    pasted += (partner['point_mask'][:, 0] == 1).sum()
    assert (partner['example_mask'] == np.float32(1) - share).all()
  assert hidden > 10 and pasted > 10
  assert hidden == pasted  # the pairs are mutual and share their rectangle


def torchvision_rectangle(share, y, x, size):
  """CutMix's rectangle in torchvision's v2 transforms, written out: (y1, y2, x1, x2)."""
  half = int(0.5 * np.sqrt(1.0 - share) * size)
  return max(y - half, 0), min(y + half, size), max(x - half, 0), min(x + half, size)


def test_rectangles_are_torchvisions():
  rng = np.random.default_rng(0)
  cut_map = jax.jit(mixing.cut_map, static_argnums=2)
  for share in (0.0, 0.113, 0.5, 0.9, 1.0):
    y, x = (int(v) for v in rng.integers(0, SIZE, 2))
    expected = np.ones((SIZE, SIZE))
    y1, y2, x1, x2 = torchvision_rectangle(share, y, x, SIZE)
    expected[y1:y2, x1:x2] = 0
    np.testing.assert_array_equal(cut_map(share, np.array([y, x]), SIZE), expected)


@pytest.mark.slow
def test_shares_have_their_beta_distribution_and_kinds_take_turns():
  keys = jax.random.split(jax.random.key(0), 1000)

  def maps(mixup, cutmix):
    draw = jax.vmap(lambda key: mixing.share_map(key, 16, mixup, cutmix))
    return np.asarray(jax.jit(draw)(keys))

  shares = maps(0.2, 0.0)[:, 0, 0]
  assert stats.kstest(shares, lambda s: special.betainc(0.2, 0.2, s)).pvalue > 1e-3
  both = maps(0.2, 1.0)
  cut = np.isin(both, (0, 1)).all(axis=(1, 2)) & (both != both[:, :1, :1]).any(axis=(1, 2))
  assert 0.4 < cut.mean() < 0.52  # some rectangles are empty


def _step_and_batch(**options):
  state, step, _, classes, points = small_steps.setup(
    'small_vit', 'linear', multi_label=False, mixup=0.8, cutmix=1.0, **options
  )
  batch = small_steps.make_batch(classes, points, False)
  batch['point'] = np.random.default_rng(1).random(batch['point'].shape).astype(np.float32)
  batch['point_mask'] = (batch['point'][..., 0] < 0.7).astype(np.float32)
  batch['example_mask'] = np.ones_like(batch['example_mask'])
  return state, step, batch


@pytest.mark.slow
def test_mixed_batches_give_the_same_on_any_number_of_devices():
  state, step, batch = _step_and_batch()
  one = small_steps.run(step, state, batch, 1, repeat=3)
  parts = _step_and_batch(accum=2)[1]
  small_steps.assert_close(one, small_steps.run(parts, state, batch, 4, repeat=3))


@pytest.mark.slow
def test_loss_is_that_of_mixed_labels_and_of_both_images_points():
  state, step, batch = _step_and_batch()
  model = small_steps.make_model('small_vit', 'linear', 5, 1, False)
  kinds = set()
  for number in range(4):
    _, sums = small_steps.run(step, state.replace(step=np.int32(number)), batch, 1)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), mixing._MIX)
    share = np.asarray(mixing.share_map(key, 16, 0.8, 1.0))
    kinds.add('mixup' if 0 < share[0, 0] < 1 else 'cutmix')
    weight = share.mean()
    image = share[..., None] * batch['image'] + (1 - share[..., None]) * swapped(batch['image'])
    output = jax.device_get(apply(model, {'params': state.params}, image))
    label = np.eye(5)[batch['label']]
    label = weight * label + (1 - weight) * swapped(label)
    class_loss = -(label * np.log(special.softmax(output['logits'], axis=-1))).sum(-1).mean()
    point_loss = _of_both(_smooth_l1, output, batch, share, weight)
    map_loss = _of_both(small_steps.map_loss, output, batch, share, weight)
    np.testing.assert_allclose(sums['class_loss'][0] / sums['class_loss'][1], class_loss, rtol=1e-5)
    np.testing.assert_allclose(sums['map_loss'][0] / sums['map_loss'][1], map_loss, rtol=1e-5)
    loss = class_loss + 3.0 * point_loss + 0.5 * map_loss
    np.testing.assert_allclose(sums['loss'][0], loss, rtol=1e-5)
  assert kinds == {'mixup', 'cutmix'}


def _smooth_l1(output, batch):
  error = np.abs(output['points'] - batch['point'])
  return np.where(error < 1, error**2 / 2, error - 0.5).mean(-1)


def _of_both(loss, output, batch, share, weight):
  """The weighted mean of `loss` over the visible points of both images."""
  total = count = 0.0
  for targets, visible, w in (
    (batch, share, weight),
    ({name: swapped(x) for name, x in batch.items()}, 1 - share, 1 - weight),
  ):
    x, y = np.moveaxis((targets['point'] * 16).astype(int), -1, 0)
    counted = targets['point_mask'] * (visible[y, x] > 0)
    total += w * (loss(output, targets) * counted).sum()
    count += w * counted.sum()
  return total / count


def test_a_heat_map_is_cut_as_its_image():
  batch = small_steps.make_batch(5, 1, False)
  heat = np.repeat([100, 200], 8).reshape(2, 8).T.reshape(16, 1, 1)  # neighbours differ
  batch['heatmap'] = np.broadcast_to(heat, (16, 16, 16)).astype(np.uint8)
  batch['image'] = np.repeat(batch['heatmap'][..., None], 3, -1).astype(np.float32)
  mixed = jax.jit(lambda batch: mixing.mix(config(0.0, 1.0), batch, 3))(batch)
  assert 0 < mixed['example_mask'][0] < 1
  both = mixed['heatmap'] + mixed['partner']['heatmap']
  np.testing.assert_array_equal(both, mixed['image'][..., 0])
