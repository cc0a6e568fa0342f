"""Inputs for tests.stress.fuzz: a small corpus of valid files, and mutations of them.

An input is {file name: bytes} and depends only on the corpus and the seed of the generator.
"""

import contextlib
import io
import json
import pathlib
import re
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image

from luab_jax.byproducts import coco_ab
from luab_jax.tools.synthetic import __main__ as synthetic
from tfds_builders.backgrounds_challenge import small_release

RECORDS = pathlib.Path(__file__).resolve().parents[4] / 'shared' / 'records'
MASK_SIZE = 12, 16  # height, width

_NUMBER = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
# fmt: off
_VALUES = [
  *b'NaN nan Infinity -inf 1e308 -1e308 1e999 -1 0 -0.0 0x1F abc 1_0 0.5.5 2.5'.split(),
  *b'2147483648 9223372036854775807 9223372036854775808 null true "0.5" [1] {}'.split(),
  *b'1001 -1000.5 1e-320 \\ud800'.split(),
  b'', b' ', b'1' + b'0' * 30, b'1' + b'0' * 400, b'9' * 5000, '٣'.encode(),
]
_PIECES = [
  *b'" \\ { } [ ] , : < > & </ /> ]]> <![CDATA[ <!-- <?xml?> &a; &#0; &#xD800;'.split(),
  b'\0', b'\xff\xfe',
  b'\xef\xbb\xbf', b'\xc3\xa9', b'\xe9', b'\n', b'\x1b[2J', b'PK\1\2', b'\x1f\x8b',
  b'<!DOCTYPE a [<!ENTITY a "aaaa">]>',
  b'<metadata><x>1</x></metadata>',
  b'<selectedRecord><x>2</x></selectedRecord>',
  b'<selected>maybe</selected>',
  b'{"image_id": ', b'"mouseTracking": [{}],', b'"image_id": true,',
]
_JSON_VALUES = [
  None, True, False, 0, 1, -1, 2.5, 0.5, -0.001, 1.0001, 1000, 1001, 1e308, -1e308, 10**30, 10**400,
  2**31, 2**63, -(2**63) - 1, float('nan'), float('inf'),
  '', '0.5', 'add', 'cup', 'unicorn', '\ud800', '\ufffd', '\0', 'é' * 1000, '<script>',
  [], {}, [[[[]]]], {'x': 1}, [1, 2, 3, 4], [0, 0, 0, 0], [-1, -1, 1e300, 1e300],
]
# fmt: on
_WORDS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


class Corpus:
  """Valid files of each kind, generated into `folder` by luab_jax.tools.synthetic."""

  def __init__(self, folder: pathlib.Path):
    for release in ('imagenet_ab', 'coco_ab'):
      if not (folder / release).exists():
        size = ['--train=12', '--validation=2', '--size=32']
        with contextlib.redirect_stdout(None):
          synthetic.main([f'--release={release}', f'--out={folder / release}', *size])
    with tarfile.open(folder / 'imagenet_ab' / 'imagenet_ab_v1_0.tar.gz') as tar:
      self.xmls = [
        tar.extractfile(member).read()
        for member in tar
        if member.isreg() and '/._' not in member.name
      ]
    self.records = json.loads((folder / 'coco_ab' / coco_ab.FILE_NAME).read_bytes())[:8]
    for record in self.records:
      record['mouseTracking'] = record['mouseTracking'][:5]
    if RECORDS.is_dir():
      self.xmls += [path.read_bytes() for path in sorted(RECORDS.glob('*.xml'))]
      self.records += json.loads((RECORDS / 'coco_ab_sample.json').read_bytes())
    with zipfile.ZipFile(folder / 'coco_ab' / 'annotations_trainval2014.zip') as archive:
      self.instances = json.loads(archive.read('annotations/instances_train2014.json'))
    for key in ('images', 'annotations'):
      self.instances[key] = self.instances[key][:6]
    self.images = list(_images(np.random.default_rng(0)))
    mask = np.arange(MASK_SIZE[0] * MASK_SIZE[1]).reshape(MASK_SIZE) % 3 == 0
    self.masks = [
      small_release.npy(np.array(mask, kind, order=order))
      for kind in ('?', 'u1', '<i8', '<f8', '>f4')
      for order in 'CF'
    ]
    self.mapping = json.dumps(small_release.MAPPING).encode()


def _images(rng):
  """Yields small JPEG, PNG, GIF and BMP files of several modes."""
  pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
  picture = Image.fromarray(np.repeat(np.repeat(pixels, 2, 0), 2, 1))
  jpegs = [('RGB', {}), ('RGB', {'progressive': True}), ('L', {}), ('CMYK', {})]
  jpegs.append(('RGB', {'restart_marker_rows': 1}))
  others = 'RGB:PNG P:PNG RGBA:PNG 1:PNG RGB:BMP L:BMP P:GIF RGB:TIFF RGB:WEBP'.split()
  for mode, form, options in [
    *((mode, 'JPEG', options) for mode, options in jpegs),
    *((*other.split(':'), {}) for other in others),
  ]:
    file = io.BytesIO()
    picture.convert(mode).save(file, form, **options)
    yield file.getvalue()


def pick(rng, choices):
  """Returns a random item of a list."""
  return choices[rng.integers(len(choices))]


def mutate(rng, data: bytes, others: list[bytes], mutations=None) -> bytes:
  """Damages a file in one to three ways; it grows by at most 64 KiB."""
  limit = len(data) + (64 << 10)
  for _ in range(rng.choice([1, 1, 1, 2, 3])):
    data = pick(rng, mutations or MUTATIONS)(rng, data, others)[:limit]
  return data


def _span(rng, data):
  """Returns (start, end) of a random span; half of the spans are short."""
  start = int(rng.integers(len(data) + 1))
  longest = len(data) - start if rng.random() < 0.5 else min(16, len(data) - start)
  return start, start + int(rng.integers(longest + 1))


def _flip(rng, data, _):
  data = bytearray(data)
  near = len(data) if rng.random() < 0.5 else min(len(data), 64)  # where the headers are
  for _ in range(rng.integers(1, 6) if data else 0):
    data[rng.integers(near)] ^= (
      int(1 << rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(1, 256))
    )
  return bytes(data)


def _truncate(rng, data, _):
  return data[: rng.integers(len(data) + 1)]


def _delete(rng, data, _):
  start, end = _span(rng, data)
  return data[:start] + data[end:]


def _duplicate(rng, data, _):
  start, end = _span(rng, data)
  return data[:end] + data[start:end] * int(rng.choice([1, 2, 50])) + data[end:]


def _splice(rng, data, others):
  other = pick(rng, others)
  return data[: rng.integers(len(data) + 1)] + other[rng.integers(len(other) + 1) :]


def _insert(rng, data, _):
  at = rng.integers(len(data) + 1)
  return data[:at] + pick(rng, _PIECES) + data[at:]


def _number(rng, data, _):
  found = list(_NUMBER.finditer(data[: 1 << 16]))
  if not found:
    return data
  match = pick(rng, found)
  return data[: match.start()] + pick(rng, _VALUES) + data[match.end() :]


def _word(rng, data, _):
  """Overwrites 2, 4 or 8 bytes with an extreme integer."""
  length, order = int(rng.choice([2, 4, 8])), pick(rng, ['little', 'big'])
  at = int(rng.integers(max(1, min(len(data), 64 if rng.random() < 0.5 else len(data)))))
  value = pick(rng, _WORDS) % (1 << 8 * length)
  return data[:at] + value.to_bytes(length, order) + data[at + length :]


def _encode(rng, data, _):
  text = data.decode('utf-8', errors='replace')
  encodings = 'utf-16 utf-16-le utf-16-be utf-32 latin-1 utf-7 cp037 utf-8-sig'.split()
  encoding = pick(rng, encodings)
  return text.encode(encoding, errors='replace')


def _declare(rng, data, _):
  head = pick(
    rng,
    [
      '<?xml version="1.0" encoding="{}"?>',
      '<?xml version="1.1" encoding="{}"?>',
      '<!DOCTYPE annotation [<!ENTITY a "{}">]>',
      '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]><!--{}-->',
    ],
  )
  return head.format(pick(rng, ['utf-8', 'latin-1', 'utf-16', 'utf-7', 'x'])).encode() + data


def _nest(rng, data, _):
  at, depth = rng.integers(len(data) + 1), int(rng.choice([10, 500, 900, 995, 1010, 3000, 9000]))
  opening, closing = pick(
    rng,
    [
      (b'[', b']'),
      (b'{"a":', b'}'),
      (b'<a>', b'</a>'),
      (b'<metadata>', b'</metadata>'),
      (b'{"image_id":', b'}'),
    ],
  )
  return data[:at] + opening * depth + closing * pick(rng, [0, depth]) + data[at:]


MUTATIONS = [
  *[_flip, _insert] * 2,
  *[_number] * 3,
  *[_truncate, _delete, _duplicate, _splice, _word, _encode, _declare, _nest],
]
VALUE_MUTATIONS = [_number, _number, _number, _insert]  # these often leave a file well-formed


def resize_header(rng, data: bytes) -> bytes:
  """Writes another size into the header of a JPEG or PNG, with a valid checksum."""
  sizes = [0, 1, 2, 15, 16, 17, 255, 4096, 30_000, 65_535]
  height, width = pick(rng, sizes), pick(rng, sizes)
  if data[:4] == b'\x89PNG':
    if rng.random() < 0.2:
      width = pick(rng, [-1, -(1 << 31), (1 << 31) - 1])
    head = (
      b'IHDR' + (width % (1 << 32)).to_bytes(4, 'big') + height.to_bytes(4, 'big') + data[24:29]
    )
    return data[:12] + head + zlib.crc32(head).to_bytes(4, 'big') + data[33:]
  frame = re.search(rb'\xff[\xc0\xc2]\0.\x08', data, re.DOTALL)
  if not frame:
    return data
  size = height.to_bytes(2, 'big') + width.to_bytes(2, 'big')
  return data[: frame.end()] + size + data[frame.end() + 4 :]


def change_value(rng, value):
  """Returns a JSON value with one of its parts, at any depth, replaced, removed or repeated."""
  if isinstance(value, dict) and value and rng.random() < 0.9:
    key = pick(rng, sorted(value))
    what = rng.random()
    if what < 0.1:
      return {k: v for k, v in value.items() if k != key}
    return {**value, key: change_value(rng, value[key])}
  if isinstance(value, list) and value and rng.random() < 0.9:
    at = rng.integers(len(value))
    if rng.random() < 0.1:
      return value[:at] + value[at + 1 :] if rng.random() < 0.5 else [*value, value[at]]
    return [*value[:at], change_value(rng, value[at]), *value[at + 1 :]]
  return pick(rng, _JSON_VALUES)


def tar_of(members, *, compressed=False) -> bytes:
  """Returns a tar of [(name, bytes)]."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as tar:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return gzip_of(file.getvalue()) if compressed else file.getvalue()


def gzip_of(data: bytes) -> bytes:
  """Returns the data as a gzip file without a timestamp."""
  packer = zlib.compressobj(1, wbits=31)
  return packer.compress(data) + packer.flush()


def zip_of(members) -> bytes:
  """Returns a zip of [(name or ZipInfo, bytes)], with a fixed date."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    for name, data in members:
      info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
      info.compress_type = info.compress_type or zipfile.ZIP_DEFLATED
      archive.writestr(info, data, compresslevel=1)
  return file.getvalue()
