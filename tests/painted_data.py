"""Small TFDS data sets with the builders' columns, whose clicks are visible as painted dots.

Not a test itself. Images are dark, of any size and format, with a bright dot at each click.
"""

import io

import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

BACKGROUND = 30
NAMES = [f'class {i}' for i in range(80)]


def paint(height, width, points, radius=4.0, colours=None):
  """uint8[height, width, 3]: antialiased discs around points (x, y) relative to the image."""
  image = np.full((height, width, 3), BACKGROUND, np.float32)
  y, x = np.mgrid[:height, :width] + 0.5
  for i, point in enumerate(points):
    distance = np.hypot(x - point[0] * width, y - point[1] * height)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    colour = np.array((255, 255, 255) if colours is None else colours[i], np.float32)
    # The brighter value wins in each channel, so overlapping dots of pure colours stay separable.
    image = np.maximum(image, (1 - cover) * BACKGROUND + cover * colour)
  return np.round(image).astype(np.uint8)


def encode(image, kind='JPEG'):
  """Bytes of an image file; 'L' and 'CMYK' are JPEGs in those colour spaces."""
  picture = Image.fromarray(image)
  if kind in ('L', 'CMYK'):
    picture, kind = picture.convert(kind), 'JPEG'
  buffer = io.BytesIO()
  picture.save(buffer, kind, **({'quality': 95, 'subsampling': 0} if kind == 'JPEG' else {}))
  return buffer.getvalue()


def find_dot(image, threshold=0.3):
  """Centre of mass (x, y) of the pixels above `threshold` in a grey float image, or None.

  Coordinates are fractions; pixel i of n has its centre at (i + 0.5) / n.
  """
  weight = np.where(image > threshold, image, 0.0)
  if weight.sum() == 0:
    return None
  y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
  total = weight.sum()
  return (x * weight).sum() / total / image.shape[1], (y * weight).sum() / total / image.shape[0]


def imagenet_features(num_classes):
  f, scalar = tfds.features, tfds.features.Scalar
  rows = {'x': np.float32, 'y': np.float32, 'time_ms': np.int64, 'block': np.int32}
  return f.FeaturesDict(
    {
      'image': f.Image(),
      'file_name': f.Text(),
      'label': f.ClassLabel(names=NAMES[:num_classes]),
      'image_size': {'height': np.int32, 'width': np.int32},
      'has_xml': np.bool_,
      'blocks': f.Sequence(
        {
          'worker_id': f.Text(),
          'selected': scalar(np.bool_),
          'selected_count': scalar(np.float32),
          'estimate_time_ms': np.int64,
          'estimate_time_known': np.bool_,
        }
      ),
      'clicks': f.Sequence(rows),
      'trace': f.Sequence(rows),
    }
  )


def coco_features():
  f = tfds.features
  numbers = dict.fromkeys(('from_x', 'from_y', 'to_x', 'to_y'), np.float32)
  return f.FeaturesDict(
    {
      'image': f.Image(),
      'file_name': f.Text(),
      'image_id': np.int64,
      'labels': f.Sequence(f.ClassLabel(names=NAMES)),
      'has_record': np.bool_,
      'icons': f.Sequence({'label': f.ClassLabel(names=NAMES), 'x': np.float32, 'y': np.float32}),
      'actions': f.Sequence(
        {
          'action': f.ClassLabel(names=['add', 'move', 'remove']),
          'icon': f.Text(),
          'time_ms': np.int64,
          **numbers,
        }
      ),
    }
  )


def rows(points, times=None, blocks=None):
  """Columns of clicks or trace samples from a list of (x, y)."""
  return {
    'x': [p[0] for p in points],
    'y': [p[1] for p in points],
    'time_ms': list(times)
    if times is not None
    else [1_640_000_000_000 + i for i in range(len(points))],
    'block': list(blocks) if blocks is not None else [0] * len(points),
  }


def imagenet_example(
  index, image, *, clicks=None, trace=None, selected=(True,), label=0, workers=None, times=None
):
  """`image`: bytes, or an array stored as PNG; `times`: of each block in ms, None if unknown."""
  times = times or [None] * len(selected)
  data = image if isinstance(image, bytes) else encode(image, 'PNG')
  empty = rows([])
  return {
    'image': data,
    'file_name': f'{index:05d}.JPEG',
    'label': label,
    'image_size': {'height': 0, 'width': 0},
    'has_xml': bool(selected),
    'blocks': {
      'worker_id': workers or ['w'] * len(selected),
      'selected': list(selected),
      'selected_count': [np.nan] * len(selected),
      'estimate_time_ms': [time or 0 for time in times],
      'estimate_time_known': [time is not None for time in times],
    },
    'clicks': clicks or empty,
    'trace': trace or empty,
  }


def coco_example(index, image, *, labels=(), icons=(), actions=()):
  """`icons`: (label, x, y); `actions`: (kind, class name, to_x, to_y)."""
  data = image if isinstance(image, bytes) else encode(image, 'PNG')
  return {
    'image': data,
    'file_name': f'{index:012d}.jpg',
    'image_id': index,
    'labels': list(labels),
    'has_record': True,
    'icons': {
      'label': [i[0] for i in icons],
      'x': [i[1] for i in icons],
      'y': [i[2] for i in icons],
    },
    'actions': {
      'action': [a[0] for a in actions],
      'icon': [a[1] for a in actions],
      'time_ms': list(range(len(actions))),
      'from_x': [np.nan] * len(actions),
      'from_y': [np.nan] * len(actions),
      'to_x': [a[2] for a in actions],
      'to_y': [a[3] for a in actions],
    },
  }


def store(folder, name, features, splits, num_shards=3):
  """Writes {split: [example]} as TFRecords, as `tfds build` would; returns `folder` as a string."""
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version='1.0.0',
    features=features,
    data_dir=folder,
    split_datasets={s: list(enumerate(examples)) for s, examples in splits.items()},
    download_config=tfds.download.DownloadConfig(num_shards=num_shards),
  )
  return str(folder)


def config(data_dir, dataset, /, **changes):
  """A complete `data` section of a config."""
  data = ml_collections.ConfigDict(
    {
      'name': dataset,
      'data_dir': str(data_dir),
      'train_split': 'train',
      'eval_splits': {},
      'image_size': 48,
      'eval_resize': 56,
      'resize_method': 'bicubic',
      'antialias': True,
      'crop_scale': (0.08, 1.0),
      'crop_ratio': (3 / 4, 4 / 3),
      'flip': True,
      'color_jitter': 0.0,
      'augment': 'none',
      'augment_ops': 2,
      'augment_magnitude': 9,
      'random_erasing': 0.0,
      'mixup_alpha': 0.0,
      'cutmix_alpha': 0.0,
      'byproduct': 'click',
      'trace_points': 4,
      'click': 'mean',
      'icons': 'replayed',
      'icon_points': 'with_instance',
      'control': 'none',
      'byproduct_fraction': 1.0,
      'min_estimate_ms': 0,
      'max_estimate_ms': 0,
      'min_worker_ms': 0,
      'max_per_worker': 0,
      'icon_label': 'drop_when_icon_cropped',
      'shuffle_buffer': 16,
    }
  )
  data.update(changes)
  return data
