"""Do our ResNet and ViT compute what timm's compute? Exits with status 1 if not.

timm's model gets random weights and BatchNorm statistics that are far from their start values, its
state dict goes through luab_jax.models.from_timm, and both see the same 224 px noise in float32,
BatchNorm in inference mode. Logits and feature grids may differ by 1e-4 at most.

torch and timm need about 1 GB, so they are not in requirements-test.txt. An environment beside the
project's .venv, which lends jax and flax through a .pth file:

  python3.11 -m venv /tmp/venv-timm
  /tmp/venv-timm/bin/pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
  /tmp/venv-timm/bin/pip install timm
  echo $PWD/.venv/lib/python3.11/site-packages > \
    /tmp/venv-timm/lib/python3.11/site-packages/luab_jax.pth
  PYTHONPATH=. JAX_PLATFORMS=cpu /tmp/venv-timm/bin/python benchmarks/timm_parity.py

Where that index cannot be reached but a CPU wheel of torch is at hand, PyPI's torchvision does. It
is built for CUDA, so its own operators do not load, but neither model uses them:

  /tmp/venv-timm/bin/pip install 'torch==2.13.0+cpu' pyyaml safetensors huggingface_hub pillow
  /tmp/venv-timm/bin/pip install --no-deps timm==1.0.31 torchvision==0.28.0
  ... benchmarks/timm_parity.py --without-torchvision-operators
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch
from ml_collections import ConfigDict

from luab_jax.models import build_model, from_timm

TIMM_NAMES = {
  'resnet18': 'resnet18',
  'resnet50': 'resnet50',
  'vit_s16': 'vit_small_patch16_224',
}
LIMIT = 1e-4


def declare_torchvision_operators():
  """Declares the two operators whose mere absence stops `import torchvision`."""
  for name in ('nms', 'qnms'):
    torch.library.define(
      f'torchvision::{name}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )


def random_timm_model(name, image):
  """timm's model in inference mode, with nothing left at a trivial start value.

  Vectors (biases, norm scales) and embeddings get noise; BatchNorm's statistics then come from two
  batches, so that activations keep a realistic size.
  """
  import timm

  model = timm.create_model(name, pretrained=False)
  with torch.no_grad():
    for key, value in model.named_parameters():
      if value.ndim == 1 or key in ('cls_token', 'pos_embed'):
        value.add_(0.3 * torch.randn_like(value))
    model.train()
    for batch in (image, image.flip(-1) + 0.5):
      model(batch)
  return model.eval()


def compare(name, image):
  """Returns the largest absolute logit, and the largest differences of logits and features."""
  nchw = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
  theirs = random_timm_model(TIMM_NAMES[name], nchw)
  with torch.no_grad():
    grid = theirs.forward_features(nchw)
    logits = theirs.forward_head(grid).numpy()
  config = {'name': name, 'head': 'linear', 'dtype': 'float32', 'sync_batch_norm': False}
  ours = build_model(ConfigDict(config), num_classes=1000, num_points=1, multi_label=False)
  variables = jax.jit(ours.init, static_argnums=2)(jax.random.key(0), image, False)
  state = {key: value.numpy() for key, value in theirs.state_dict().items()}
  variables = from_timm.convert(state, name, variables)
  with jax.default_matmul_precision('float32'):
    outputs = jax.jit(ours.apply, static_argnums=2)(variables, image, False)
  features = outputs['features']
  if name.startswith('vit'):
    grid = grid[:, 1:].numpy().reshape(features.shape)
  else:
    grid = grid.numpy().transpose(0, 2, 3, 1)
  return (
    np.abs(logits).max(),
    float(jnp.abs(outputs['logits'] - logits).max()),
    float(jnp.abs(features - grid).max()),
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--without-torchvision-operators', action='store_true')
  if parser.parse_args().without_torchvision_operators:
    declare_torchvision_operators()
  torch.manual_seed(0)
  image = np.random.default_rng(0).normal(size=(4, 224, 224, 3)).astype(np.float32)
  failed = False
  for name in TIMM_NAMES:
    largest, logits, features = compare(name, image)
    ok = logits <= LIMIT and features <= LIMIT
    failed |= not ok
    print(
      f'{name:10} largest |logit| {largest:6.3f}   max difference: logits {logits:.1e}, '
      f'features {features:.1e}   {"ok" if ok else "TOO LARGE"}',
      flush=True,
    )
  sys.exit(int(failed))


if __name__ == '__main__':
  main()
