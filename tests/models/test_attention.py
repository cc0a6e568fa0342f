"""ViT's attention: when cuDNN computes it, and that padding for cuDNN changes nothing."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from luab_jax.models import vit


@pytest.mark.slow
def test_padded_for_cudnn_it_is_the_same(monkeypatch):
  query, key, value = np.random.default_rng(0).normal(size=(3, 2, 13, 2, 8)).astype(np.float32)
  expected = vit.attention(query, key, value)
  on_xla, called = functools.partial(jax.nn.dot_product_attention, implementation='xla'), []

  def as_cudnn(query, key, value, *, implementation, **lengths):
    called.append((implementation, query.shape))
    return on_xla(query, key, value, **lengths)

  monkeypatch.setattr(vit, '_has_cudnn_attention', lambda dtype: True)
  monkeypatch.setattr(jax.nn, 'dot_product_attention', as_cudnn)
  np.testing.assert_allclose(vit.attention(query, key, value), expected, rtol=1e-5, atol=1e-6)
  assert called == [('cudnn', (2, 16, 2, 8))]


@pytest.mark.parametrize(
  ('capability', 'dtype', 'expected'),
  [
    ('9.0', jnp.bfloat16, True),
    ('9.0', jnp.float32, False),
    ('7.5', jnp.bfloat16, False),
    ('10.0', jnp.bfloat16, True),
    ('gfx942', jnp.bfloat16, False),
  ],
)
def test_cudnn_computes_it_in_16_bits_on_nvidia_gpus_since_ampere(
  monkeypatch, capability, dtype, expected
):
  device = types.SimpleNamespace(compute_capability=capability)
  monkeypatch.setattr(jax, 'devices', lambda: [device])
  assert vit._has_cudnn_attention(jnp.dtype(dtype)) is expected
