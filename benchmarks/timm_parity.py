"""Do our ResNet, ViT and ConvNeXt compute what timm's compute? Exits with status 1 if not.

timm's and torchvision's models get random weights and BatchNorm statistics far from their initial
values. Their files, as written by torch, safetensors and (under augreg's and big_vision's names)
numpy, are read as for `--config.init_from`, and both sides see the same noise in float32, with
BatchNorm in inference mode: at 224 px, and at 288 px with position embeddings resized. Then in the
other direction, what `--mode=export` writes goes into timm.create_model(checkpoint_path=...), which
loads strictly. Logits and feature grids may differ by at most 1e-4, exported weights by no bit.

torch and timm need about 1 GB, so they are not in requirements-test.txt. This makes an environment
for them, which takes jax and flax from the project's .venv:

  .venv/bin/python -m venv /tmp/venv-timm
  /tmp/venv-timm/bin/pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
  /tmp/venv-timm/bin/pip install timm
  PYTHONPATH=.:$(echo .venv/lib/python3.*/site-packages) JAX_PLATFORMS=cpu \
    /tmp/venv-timm/bin/python benchmarks/timm_parity.py

If that index cannot be reached but a CPU wheel of torch is at hand, PyPI's torchvision will do. It
is built for CUDA, so its own operators do not load, but no model here uses them:

  /tmp/venv-timm/bin/pip install 'torch==2.13.0+cpu' pyyaml safetensors huggingface_hub pillow
  /tmp/venv-timm/bin/pip install --no-deps timm==1.0.31 torchvision==0.28.0
  ... benchmarks/timm_parity.py --without-torchvision-operators
"""

import argparse
import functools
import pathlib
import sys
import tempfile

import jax
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from configs import default
from luab_jax.models import build_model
from luab_jax.models.weights import load, timm_names
from tests.weight_files import flax_names

LIMIT = 1e-4
CLASSES = 1000
NAMES = ('resnet18', 'resnet50', 'vit_ti16', 'vit_s16', 'vit_l16', 'convnext_t', 'convnext_s')


def declare_torchvision_operators():
  """Declares the two operators whose absence alone makes `import torchvision` fail."""
  for name in ('nms', 'qnms'):
    torch.library.define(
      f'torchvision::{name}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )


def noise(size):
  """f32[2,size,size,3] of Gaussian noise."""
  return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)


def to_torch(image):
  return torch.from_numpy(image.transpose(0, 3, 1, 2).copy())


def randomised(model, size=224):
  """A torch model in inference mode, with nothing left at a trivial initial value.

  Vectors (biases, norm scales) and embeddings get noise; BatchNorm's statistics then come from two
  batches, so that activations keep a realistic scale.
  """
  image = to_torch(noise(size))
  with torch.no_grad():
    for key, value in model.named_parameters():
      if value.ndim == 1 or key.endswith(('cls_token', 'pos_embed', 'pos_embedding')):
        value.add_(0.3 * torch.randn_like(value))
      elif not value.any():  # torchvision's classifier
        value.add_(0.05 * torch.randn_like(value))
    model.train()
    for batch in (image, image.flip(-1) + 0.5):
      model(batch)
  return model.eval()


@functools.cache
def ours(name, size, head='linear'):
  """(model config, variables from `init`, compiled apply)"""
  config = default.get_config().model
  config.update(name=name, head=head, dtype='float32', normalisation='half')
  model = build_model(config, num_classes=CLASSES, num_points=1, multi_label=False)
  variables = jax.jit(model.init, static_argnums=2)(jax.random.key(0), noise(size), False)
  return config, jax.device_get(variables), jax.jit(functools.partial(model.apply, train=False))


def difference(ours, theirs):
  return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


def load_and_compare(what, path, name, size, logits, grid=None):
  """Loads a file as a run would, prints the differences; returns whether they are small."""
  config, variables, apply = ours(name, size)
  variables, _ = load.load_pretrained(path, config, variables)
  outputs = apply(variables, noise(size))
  differences = {'logits': difference(outputs['logits'], logits)}
  if grid is not None:
    differences['features'] = difference(outputs['features'], grid)
  return report(name, what, np.abs(logits).max(), differences)


def report(name, what, largest, differences):
  good = all(value <= LIMIT for value in differences.values())
  text = ', '.join(f'{key} {value:.1e}' for key, value in differences.items())
  print(
    f'{name:9} {what:38} largest |logit| {largest:6.3f}   max difference: {text}   '
    f'{"ok" if good else "TOO LARGE"}',
    flush=True,
  )
  return good


def answers(model, name, size):
  """timm's logits [B,C] and features [B,h,w,D] on the noise."""
  with torch.no_grad():
    grid = model.forward_features(to_torch(noise(size)))
    logits = model.forward_head(grid).numpy()
    if name.startswith('convnext'):
      grid = model.head.norm(grid)
  if not name.startswith('vit'):
    return logits, grid.numpy().transpose(0, 2, 3, 1)
  side = size // 16
  return logits, grid[:, 1:].numpy().reshape(len(grid), side, side, -1)


def check_files(name, folder):
  """Checks timm's weights in every kind of file."""
  import timm

  timm_name = timm_names.TIMM_MODELS[name]
  theirs = randomised(timm.create_model(timm_name, num_classes=CLASSES))
  state = theirs.state_dict()
  safetensors.torch.save_file(state, folder / 'model.safetensors')
  torch.save(state, folder / 'zip.pth')
  torch.save(
    {'epoch': 3, 'state_dict_ema': state}, folder / 'old.pth', _use_new_zipfile_serialization=False
  )
  files = ['model.safetensors', 'zip.pth', 'old.pth']
  expected = {file: answers(theirs, name, 224) for file in files}
  if name.startswith('vit'):
    arrays, heads = {key: value.numpy() for key, value in state.items()}, theirs.blocks[0].attn
    for file, big_vision in (('augreg.npz', False), ('big_vision.npz', True)):
      np.savez(
        folder / file,
        **flax_names(
          arrays, heads.num_heads, big_vision=big_vision, prefix='params/' if big_vision else ''
        ),
      )
      again = timm.create_model(timm_name, num_classes=CLASSES)
      again.load_pretrained(str(folder / file))  # timm's own reader of such files
      expected[file] = answers(again.eval(), name, 224)
  good = [
    load_and_compare(file, folder / file, name, 224, *both) for file, both in expected.items()
  ]
  if name.startswith('vit'):
    from timm.models.vision_transformer import checkpoint_filter_fn

    large = timm.create_model(timm_name, num_classes=CLASSES, img_size=288).eval()
    large.load_state_dict(checkpoint_filter_fn(dict(state), large))
    good.append(
      load_and_compare(
        'model.safetensors, 224 -> 288 px',
        folder / 'model.safetensors',
        name,
        288,
        *answers(large, name, 288),
      )
    )
  return all(good)


def check_torchvision(name, torchvision_name, folder):
  import torchvision

  theirs = randomised(getattr(torchvision.models, torchvision_name)(weights=None))
  torch.save(theirs.state_dict(), folder / 'torchvision.pth')
  with torch.no_grad():
    logits = theirs(to_torch(noise(224))).numpy()
  return load_and_compare(
    f"torchvision's {torchvision_name}.pth", folder / 'torchvision.pth', name, 224, logits
  )


def check_export(name, head, folder):
  """Checks our exported weights in timm."""
  import timm

  _, variables, apply = ours(name, 224, head)
  rng = np.random.default_rng(1)
  variables = jax.tree.map(lambda x: (x + 0.02 * rng.normal(size=x.shape)).astype('f4'), variables)
  outputs = apply(variables, noise(224))
  model, points = timm_names.state_dicts(variables, name)
  safetensors.numpy.save_file(model, folder / 'export.safetensors')
  pooling = {}
  if name.startswith('vit') and head == 'spatial':
    pooling = {'global_pool': 'avg', 'fc_norm': False}
  theirs = timm.create_model(
    timm_names.TIMM_MODELS[name],
    num_classes=CLASSES,
    **pooling,
    checkpoint_path=str(folder / 'export.safetensors'),
  ).eval()
  logits, grid = answers(theirs, name, 224)
  if head == 'spatial':  # as the model card describes
    f, a = (
      torch.from_numpy(grid.transpose(0, 3, 1, 2).copy()),
      torch.from_numpy(points['attention.weight']),
    )
    maps = torch.einsum('kd,bdhw->bkhw', a, f).flatten(2).softmax(2).mean(1)
    with torch.no_grad():
      logits = theirs.get_classifier()(torch.einsum('bn,bdn->bd', maps, f.flatten(2))).numpy()
  state = theirs.state_dict()
  same = all(np.array_equal(state[key].numpy(), value) for key, value in model.items())
  good = report(
    name,
    f'export, {head} head',
    np.abs(logits).max(),
    {
      'logits': difference(outputs['logits'], logits),
      'features': difference(outputs['features'], grid),
    },
  )
  print(f'{name:9} exported weights in timm are {"the same bits" if same else "OTHERS"}')
  return good and same


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--without-torchvision-operators', action='store_true')
  if parser.parse_args().without_torchvision_operators:
    declare_torchvision_operators()
  torch.manual_seed(0)
  jax.config.update('jax_default_matmul_precision', 'float32')
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    good = [check_files(name, folder) for name in NAMES]
    good += [
      check_torchvision('resnet18', 'resnet18', folder),
      check_torchvision('vit_b16', 'vit_b_16', folder),
    ]
    good += [
      check_export(name, head, folder)
      for name in ('resnet18', 'vit_ti16', 'convnext_t')
      for head in ('linear', 'spatial')
    ]
  sys.exit(int(not all(good)))


if __name__ == '__main__':
  main()
