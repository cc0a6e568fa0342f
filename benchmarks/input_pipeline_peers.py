"""What input_pipeline.py compares our batches with: PIL as PyTorch users do, and decoding alone."""

import importlib.util
import io
import itertools
import pathlib

BATCH, SIZE = 128, 224


class PilDataset:
  """The peer, as a map-style data set of PyTorch; items are (float32[3, S, S], label, click)."""

  def __init__(self, folder):
    self.paths = sorted(pathlib.Path(folder).iterdir())

  def __len__(self):
    return 1 << 30

  def __getitem__(self, index):
    import random

    import numpy as np
    from PIL import Image

    path = self.paths[index % len(self.paths)]
    with Image.open(path) as file:
      image = file.convert('RGB')
    left, top, width, height = pil_window(random, *image.size)
    image = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.BICUBIC)
    if random.random() < 0.5:
      image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image, np.float32) / 255
    pixels = (pixels - np.float32((0.485, 0.456, 0.406))) / np.float32((0.229, 0.224, 0.225))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), 0, np.float32((0.5, 0.5))


def pil_window(random, width, height):
  """(left, top, width, height) of torchvision's RandomResizedCrop with its defaults."""
  import math

  for _ in range(10):
    area = width * height * random.uniform(0.08, 1)
    ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      return random.randint(0, width - w), random.randint(0, height - h), w, h
  side = min(width, height)
  return (width - side) // 2, (height - side) // 2, side, side


def pil(folder):
  """The peer's batches without PyTorch."""
  import numpy as np

  dataset = PilDataset(folder)
  for start in itertools.count(0, BATCH):
    items = [dataset[i] for i in range(start, start + BATCH)]
    yield [np.stack(column) for column in zip(*items, strict=True)]


def data_loader(folder, workers):
  """The peer's batches from PyTorch's DataLoader."""
  import torch.utils.data

  torch.set_num_threads(1)
  loader = torch.utils.data.DataLoader(
    PilDataset(folder), batch_size=BATCH, num_workers=workers, drop_last=True
  )
  yield from loader


def decode_alone(folder):
  """Batches of whole images that are only decoded, by simplejpeg or else PIL."""
  files = [path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())]
  if importlib.util.find_spec('simplejpeg'):
    from simplejpeg import decode_jpeg as decode
  else:
    from PIL import Image

    def decode(file):
      return Image.open(io.BytesIO(file)).convert('RGB')

  for start in itertools.count(0, BATCH):
    yield [decode(files[i % len(files)]) for i in range(start, start + BATCH)]
