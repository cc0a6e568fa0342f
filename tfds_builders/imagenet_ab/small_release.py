"""Writes a release of a few plain images, with the files of the real one, for tests."""

import io
import pathlib
import tarfile

import tensorflow_datasets as tfds
from PIL import Image

from tfds_builders import build

XML_NAME = 'imagenet_ab_v1_0.tar.gz'


def image(color, *, size=(12, 8), mode='RGB', form='JPEG'):
  """Returns the file of a plain picture; `size` is (width, height)."""
  file = io.BytesIO()
  Image.new(mode, size, color).save(file, form)
  return file.getvalue()


def write_tar(path, members, mode='w'):
  """Writes (name, bytes) to a tar file or file object."""
  with tarfile.open(
    path if isinstance(path, pathlib.Path) else None,
    mode,
    fileobj=None if isinstance(path, pathlib.Path) else path,
  ) as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))


def write_class_tars(path, classes):
  """Writes {class: {file: bytes}} as a tar of class tars."""
  members = []
  for name, files in classes.items():
    inner = io.BytesIO()
    write_tar(inner, files.items())
    members.append((f'{name}.tar', inner.getvalue()))
  write_tar(path, members)


def metadata(*, selected=True, clicks=(), trace=(), hovers=(), extra=''):
  """Returns one `metadata` block; points are (x, y, time)."""
  rows = [
    f'<{tag}><time>{t}</time><x>{x}</x><y>{y}</y></{tag}>'
    for tag, points in (('selectedRecord', clicks), ('mouseTracking', trace))
    for x, y, t in points
  ]
  rows += [
    f'<hoveredRecord><action>{action}</action><time>{t}</time></hoveredRecord>'
    for action, t in hovers
  ]
  return (
    f'<metadata><worker_id>W1</worker_id><selected>{selected}</selected>'
    f'<estimateTime>463</estimateTime>{"".join(rows)}{extra}</metadata>'
  )


def voc(name, box, size=(12, 8)):
  """Returns a VOC header with one box (xmin, ymin, xmax, ymax)."""
  sides = ''.join(
    f'<{side}>{value}</{side}>'
    for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True)
  )
  return (
    f'<size><width>{size[0]}</width><height>{size[1]}</height></size><object>'
    f'<name>{name}</name><truncated>1</truncated><bndbox>{sides}</bndbox></object>'
  )


def xml(body):
  return f'<annotation>{body}</annotation>'.encode()


T = 1640942069944
CLICKED = xml(
  voc('cat', (3, 2, 15, 6))
  + metadata(
    clicks=[(0.25, 0.5, T + 1), (1.25, -0.5, T + 3)],
    trace=[(0.1, 0.2, T)],
    hovers=[('enter', T - 5), ('leave', T + 9)],
    extra='<imagePosition><x>857</x><y>1976</y></imagePosition>',
  )
  + metadata(selected=False, trace=[(0.3, 0.4, T + 7)])
)
CLASSES = {
  'cat': {'1.JPEG': image('red'), '2.JPEG': image('white'), '3.JPEG': image('black')},
  'dog': {'1.JPEG': image('blue', size=(5, 7)), '2.png': image('green', form='PNG')},
}


def write_release(folder, classes=None, xmls=None, validation=None):
  """Writes a small `local` release with the usual XMLs."""
  folder.mkdir(parents=True, exist_ok=True)
  write_class_tars(folder / 'my_img_train.tar', CLASSES if classes is None else classes)
  write_class_tars(folder / 'my_img_val.tar', validation or {'cat': {'9.JPEG': image('pink')}})
  xmls = {'cat/1': CLICKED, 'dog/1': xml(metadata(selected=False))} if xmls is None else xmls
  members = [(f'train_xml/{name}.xml', data) for name, data in xmls.items()]
  members.insert(1, ('train_xml/cat/._1.xml', b'\x00\x05\x16\x07'))
  write_tar(folder / XML_NAME, members, 'w:gz')
  return folder


def build_local(manual_dir, data_dir):
  """Builds and returns {split: {file name: example}} with the image files undecoded."""
  path = build.build('imagenet_ab/local', manual_dir=manual_dir, data_dir=data_dir)
  builder = tfds.builder_from_directory(path)  # without the builder's code
  names = builder.info.features['label'].names
  splits = builder.as_dataset(decoders={'image': tfds.decode.SkipDecoding()})
  return {
    split: {
      f'{names[row["label"]]}/{row["file_name"].decode()}': row for row in tfds.as_numpy(rows)
    }
    for split, rows in splits.items()
  }
