"""Generates small synthetic releases and reads their files without our own readers."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
from PIL import Image

from luab_jax.tools.synthetic import __main__ as command

TRAIN, VALIDATION = 360, 60


def generate(release, out, train, validation, seed=0, hash_seed=None):
  """Runs the command, with a hash seed in its own process; returns {file name: sha256}."""
  arguments = [
    f'--release={release}',
    f'--out={out}',
    f'--train={train}',
    f'--validation={validation}',
    f'--seed={seed}',
  ]
  if hash_seed is None:
    command.main(arguments)
  else:
    subprocess.run(
      [sys.executable, '-m', 'luab_jax.tools.synthetic', *arguments],
      check=True,
      capture_output=True,
      env={**os.environ, 'PYTHONHASHSEED': hash_seed},
    )
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def tar_members(path):
  """{member name: bytes} of a tar whose members must have fixed dates and no owner."""
  with tarfile.open(path) as tar:
    members = tar.getmembers()
    assert all(m.mtime == 1640995200 and m.uid == m.gid == 0 and not m.uname for m in members)
    return {m.name: tar.extractfile(m).read() for m in members}


def images_of(path):
  """{(class, stem): u8[H, W, 3]} of a tar of class tars."""
  images = {}
  for name, data in tar_members(path).items():
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
      for member in tar:
        key = (name.removesuffix('.tar'), member.name.removesuffix('.JPEG'))
        images[key] = np.asarray(Image.open(tar.extractfile(member)))
  return images


def annotations_of(path):
  """{(class, stem): root element} of the byproducts' XMLs, without macOS companion files."""
  return {
    tuple(name.removesuffix('.xml').split('/')[1:]): ET.fromstring(data)
    for name, data in tar_members(path / 'imagenet_ab_v1_0.tar.gz').items()
    if '/._' not in name
  }


def points(block, tag):
  """f64[N, 3] of (time, x, y) from the elements `tag` of a metadata element."""
  elements = [e for e in block.findall(tag) if len(e)]
  rows = [[float(e.findtext(t)) for t in ('time', 'x', 'y')] for e in elements]
  return np.array(rows).reshape(-1, 3)


def tags(root):
  """Set of tag paths below an element, such as 'object/bndbox/xmin'."""
  found = set()
  for child in root:
    found |= {child.tag} | {f'{child.tag}/{path}' for path in tags(child)}
  return found


def keys(value):
  """Set of key paths in JSON; the items of a list share one path."""
  if isinstance(value, list):
    return set().union(*map(keys, value))
  if isinstance(value, dict):
    return set(value).union(*({f'{k}/{path}' for path in keys(v)} for k, v in value.items()))
  return set()


def instances_of(path, split):
  with zipfile.ZipFile(path / 'annotations_trainval2014.zip') as archive:
    return json.loads(archive.read(f'annotations/instances_{split}2014.json'))


def records_of(path):
  return json.loads((path / 'coco_ab_v1_0.json').read_bytes())
