"""The peer of gpu.py: timm's model trained by PyTorch, in a process and a Python of its own.

  PYTHON benchmarks/gpu_timm.py MODEL BATCH SIZE DEVICE WORKERS COMPILE [FOLDER]

Standard input: one {"work": "synthetic" | "loader", "steps": n} a line; standard output: a line
with versions once it is ready, then {"images", "seconds", "cpu_seconds"} for each. Channels last,
autocast to bfloat16, torch.compile (COMPILE = 1), fused optimizers, timm's own loader with WORKERS
processes on FOLDER/CLASS/*.jpg: what its users get when they know what they do.
"""

import itertools
import json
import os
import pathlib
import sys
import time


def cpu_seconds():
  """User and system time of this process and of its living children."""
  ticks = 0
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = path.read_text().rpartition(')')[2].split()
    except OSError:  # it has ended
      continue
    if int(fields[1]) == os.getpid() or path.parent.name == str(os.getpid()):
      ticks += int(fields[11]) + int(fields[12])
  return ticks / os.sysconf('SC_CLK_TCK')


def make_training(name, device, compiled):
  """A function (images, labels) -> None: one step, not waited for."""
  import timm
  import torch

  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')
  model = timm.create_model(name).to(device, memory_format=torch.channels_last).train()
  fused = {'fused': True} if device == 'cuda' else {}
  vit = 'vit' in name
  if vit:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, **fused)
  else:
    optimizer = torch.optim.SGD(
      model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, **fused
    )
  forward = torch.compile(model) if compiled else model
  loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

  def step(images, labels):
    with torch.autocast(device, dtype=torch.bfloat16):
      loss = loss_of(forward(images), labels)
    loss.backward()
    if vit:
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

  return step


def synthetic(batch, size, device):
  """The same batch on the device, again and again."""
  import torch

  images = torch.randn(batch, 3, size, size, device=device)
  labels = torch.randint(0, 1000, (batch,), device=device)
  return itertools.repeat((images.contiguous(memory_format=torch.channels_last), labels))


def loaded(folder, batch, size, device, workers):
  """Endless batches of timm's loader, RandomResizedCrop and flip as in our recipe."""
  import timm.data
  import torch

  loader = timm.data.create_loader(
    timm.data.ImageDataset(folder),
    input_size=(3, size, size),
    batch_size=batch,
    is_training=True,
    use_prefetcher=device == 'cuda',
    hflip=0.5,
    color_jitter=None,
    auto_augment=None,
    interpolation='bicubic',
    num_workers=workers,
    pin_memory=device == 'cuda',
    persistent_workers=workers > 0,
    device=torch.device(device),
  )
  while True:
    for images, labels in loader:
      yield images.contiguous(memory_format=torch.channels_last), labels


def main():
  name, batch, size, device, workers, compiled, *folder = sys.argv[1:]
  try:
    import timm
    import torch
  except (ImportError, RuntimeError) as error:  # not there, or a torchvision of another torch
    print(json.dumps({'missing': f'{error} in {sys.executable}'}), flush=True)
    return
  batch, size = int(batch), int(size)
  step = make_training(name, device, compiled == '1')
  streams = {'synthetic': synthetic(batch, size, device)}
  if folder:
    streams['loader'] = loaded(folder[0], batch, size, device, int(workers))
  wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
  for _ in range(3):
    step(*next(streams['synthetic']))
  wait()
  print(
    json.dumps({'versions': {'torch': torch.__version__, 'timm': timm.__version__}}), flush=True
  )
  for line in sys.stdin:
    order = json.loads(line)
    cpu, began = cpu_seconds(), time.perf_counter()
    for images, labels in itertools.islice(streams[order['work']], order['steps']):
      step(images, labels)
    wait()
    seconds = time.perf_counter() - began
    print(
      json.dumps(
        {'images': order['steps'] * batch, 'seconds': seconds, 'cpu_seconds': cpu_seconds() - cpu}
      ),
      flush=True,
    )


if __name__ == '__main__':
  main()
