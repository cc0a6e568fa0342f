"""Writes a few painted images and heat maps as TFRecords like those of the release, for tests."""

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from tfds_builders.clickme import release


def jpeg(pixels: np.ndarray) -> bytes:
  """The JPEG file of uint8[H, W] or uint8[H, W, 3]."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=95)
  return file.getvalue()


def blob(x: float, y: float, *, sigma: float = 0.06, size: tuple[int, int] = release.SIZE):
  """uint8[H, W]: a Gaussian with peak 255 at (x, y); position and width are image fractions."""
  rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
  distance = np.hypot(columns / size[1] - x, rows / size[0] - y)
  return np.round(255 * np.exp(-0.5 * (distance / sigma) ** 2)).astype(np.uint8)


def picture(x: float, y: float, *, size: tuple[int, int] = release.SIZE):
  """uint8[H, W, 3]: a light spot on dark grey where `blob` is."""
  return 60 + np.repeat(blob(x, y, size=size)[..., None] // 2, 3, axis=-1)


def record(image: bytes, heatmap: bytes, label: int) -> bytes:
  """A record with the three features of the release."""
  feature = {
    'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
    'heatmap': tf.train.Feature(bytes_list=tf.train.BytesList(value=[heatmap])),
    'label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
  }
  return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def painted(x: float, y: float, label: int) -> bytes:
  """A record whose image and heat map have a spot at the same place."""
  return record(jpeg(picture(x, y)), jpeg(blob(x, y)), label)


def write(folder: pathlib.Path, shards: dict[str, list[bytes]]) -> pathlib.Path:
  """Writes {name such as 'train-0': records} as the shards of a release; returns the folder."""
  for name, records in shards.items():
    path = folder / name.partition('-')[0] / f'{name}.tfrecords'
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
      for item in records:
        writer.write(item)
  return folder
