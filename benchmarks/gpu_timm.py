"""The peer of gpu.py: timm's model trained by PyTorch, in its own process and Python.

  PYTHON benchmarks/gpu_timm.py MODEL BATCH SIZE DEVICE WORKERS COMPILE [FOLDER]

Standard input: one {"work": "synthetic" | "loader", "steps": n} per line; standard output: a line
with versions once it is ready, then {"images", "seconds", "cpu_seconds", "mib"} for each. Channels
last, autocast to bfloat16, torch.compile (COMPILE = 1), fused optimizers, timm's own loader with
WORKERS processes on FOLDER/CLASS/*.jpg: what experienced users of timm get.
`Peer` is the other end of the pipes.
"""

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time


class Peer:
  """timm in its own process; `missing` says why it does not run."""

  def __init__(self, model, options, folder=None):
    command = [
      options.torch_python,
      __file__,
      model,
      str(options.batch),
      str(options.size),
      'cpu' if options.tiny else 'cuda',
      str(0 if options.tiny else options.workers),
      '0' if options.tiny else '1',
    ]
    self._process = subprocess.Popen(
      command + ([str(folder)] if folder else []),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    first = self._answer()
    self.missing, self.versions = first.get('missing'), first.get('versions', {})

  def _answer(self):
    line = self._process.stdout.readline()
    return json.loads(line) if line else {'missing': 'it ended by itself, see above'}

  def alternative(self, work, steps):
    """Returns an alternative for `harness.compare`."""

    def run():
      self._process.stdin.write(json.dumps({'work': work, 'steps': steps}) + '\n')
      self._process.stdin.flush()
      done = self._answer()
      if 'missing' in done:
        raise SystemExit(f'gpu: the process of timm: {done["missing"]}')
      images = done['images']
      return images, {
        **{key: done[key] / images for key in ('seconds', 'cpu_seconds')},
        'GPU MiB': done['mib'],
      }

    return run

  def close(self):
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()


def write_photographs(data_dir, folder, copies):
  """Writes the JPEGs of imagenet_ab/local as folder/CLASS/*.jpg, with hard links for copies."""
  import tensorflow_datasets as tfds

  decoders = {'image': tfds.decode.SkipDecoding()}
  examples = tfds.load(
    'imagenet_ab/local', split='train', data_dir=str(data_dir), decoders=decoders
  ).as_numpy_iterator()
  for number, example in enumerate(examples):
    place = pathlib.Path(folder, str(example['label']))
    place.mkdir(exist_ok=True)
    path = place / f'{number}.jpg'
    path.write_bytes(example['image'])
    for copy in range(1, copies):
      os.link(path, place / f'{number}_{copy}.jpg')


def cpu_seconds():
  """User and system time of this process and its running children."""
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
  """Returns a function (images, labels) -> None that runs a step without waiting for it."""
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
  """Repeats one random batch on the device."""
  import torch

  images = torch.randn(batch, 3, size, size, device=device)
  labels = torch.randint(0, 1000, (batch,), device=device)
  return itertools.repeat((images.contiguous(memory_format=torch.channels_last), labels))


def make_loader(folder, batch, size, device, workers):
  """timm's loader, with RandomResizedCrop and flip as in our recipe."""
  import timm.data
  import torch

  return timm.data.create_loader(
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
    persistent_workers=False,
    device=torch.device(device),
  )


def loaded(loader):
  """Endless batches of a loader; its workers start with the first and end with this iterator."""
  import torch

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
  batch, size, workers = int(batch), int(size), int(workers)
  step = make_training(name, device, compiled == '1')
  there = synthetic(batch, size, device)
  loader = make_loader(folder[0], batch, size, device, workers) if folder else None

  def train(batches, steps):
    for images, labels in itertools.islice(batches, steps):
      step(images, labels)
    if device == 'cuda':
      torch.cuda.synchronize()

  train(there, 3)
  print(
    json.dumps({'versions': {'torch': torch.__version__, 'timm': timm.__version__}}), flush=True
  )

  def measure(batches, steps):
    cpu, began = cpu_seconds(), time.perf_counter()
    train(batches, steps)
    return {
      'images': steps * batch,
      'seconds': time.perf_counter() - began,
      'cpu_seconds': cpu_seconds() - cpu,
      'mib': torch.cuda.max_memory_allocated() / 2**20,
    }

  for line in sys.stdin:
    order = json.loads(line)
    if order['work'] == 'synthetic':
      done = measure(there, order['steps'])
    else:
      # The workers end with the turn, so that they do not work during those of others. They start
      # and work in lockstep: it is steady after two of their rounds, and whole rounds are counted.
      with contextlib.closing(loaded(loader)) as batches:
        train(batches, 2 * workers)
        a_round = max(workers, 1)
        done = measure(batches, -(-order['steps'] // a_round) * a_round)
    print(json.dumps(done), flush=True)


if __name__ == '__main__':
  main()
