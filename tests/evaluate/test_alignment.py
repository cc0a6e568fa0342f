"""Agreement with human heat maps: SciPy's rank correlation, and gradients known in advance."""

import types

import jax
import numpy as np
import pytest
from scipy import stats

from luab_jax.evaluate import alignment
from luab_jax.runtime import parallel

SIZE = 12


def scipys(maps, others):
  """SciPy's Spearman correlation of each map with the other map at the same index."""
  return [
    stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, others, strict=False)
  ]


def test_spearman_is_scipys_with_ties_and_without():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(4, 20, 30)).astype(np.float32)
  b = rng.integers(0, 5, (4, 20, 30)).astype(np.float32)
  b[1] += a[1]
  b[2] = np.maximum(b[2] - 3, 0)  # mostly zeros, as heat maps are
  b[3] = 1
  found = np.asarray(jax.jit(alignment.spearman)(a, b))
  np.testing.assert_allclose(found[:3], scipys(a[:3], b), atol=1e-5)
  assert np.isnan(found[3])


def test_maps_of_the_label_are_compared_and_padding_is_not():
  rng = np.random.default_rng(1)
  weight = rng.normal(size=(SIZE, SIZE, 3, 5)).astype(np.float32)
  cam = rng.normal(size=(1, 3, 3, 5)).astype(np.float32)

  def apply(variables, image, train):
    del variables, train
    logits = jax.numpy.einsum('bhwc,hwck->bk', image, weight)
    return {'logits': logits, 'cam': jax.numpy.repeat(cam, len(image), 0)}

  model = types.SimpleNamespace(apply=apply, normalisation='half')
  human = rng.random((4, SIZE, SIZE)).astype(np.float32)
  human[2] = 0  # a flat map: the correlation is undefined
  batch = {
    'image': rng.integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8),
    'label': np.array([0, 3, 2, 1]),
    'human_map': human,
    'example_mask': np.float32([1, 1, 1, 0]),
  }
  step = parallel.map_step(alignment.make_alignment_step(model))
  sums = parallel.fetch(step({}, jax.tree.map(lambda x: x[None], batch)))
  saliency = [np.abs(weight[..., label]).max(-1) for label in (0, 3)]
  total, count = sums['spearman_saliency']
  assert count == 2
  assert total == pytest.approx(sum(scipys(saliency, human)), abs=1e-5)
  cams = [
    np.asarray(jax.image.resize(cam[0, ..., label], (SIZE, SIZE), 'linear')) for label in (0, 3)
  ]
  assert sums['spearman_cam'][0] == pytest.approx(sum(scipys(cams, human)), abs=1e-5)


def test_the_share_of_the_human_ceiling():
  share = alignment.as_share({'spearman_cam': 0.6575315343478081 / 2})
  assert share == {'alignment_cam': pytest.approx(0.5)}
