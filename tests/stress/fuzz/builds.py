"""Builds of small damaged ImageNet-AB releases; see records.py for what a check is."""

import contextlib
import posixpath
import types

from luab_jax.byproducts import BadRecord, imagenet_ab
from luab_jax.byproducts.archives import reader
from luab_jax.data import image_files
from luab_jax.errors import UserError
from tests.stress.fuzz.inputs import mutate, pick, tar_of
from tests.stress.fuzz.outcome import Outcome, refusal
from tfds_builders.imagenet_ab import imagenet_ab_dataset_builder


def make_imagenet_build(rng, corpus):
  """A small release in which images, XMLs, names or the bytes of an archive may be damaged."""
  pictures, xmls = [], []
  for index in range(rng.integers(1, 7)):
    stem = f'{pick(rng, ["cat", "dog", "dog ", ".", "c" * 120])}/{index}'
    picture = pick(rng, corpus.images[:7])
    xml = pick(rng, corpus.xmls)
    if rng.random() < 0.3:
      picture = mutate(rng, picture, corpus.images)
    if rng.random() < 0.3:
      xml = mutate(rng, xml, corpus.xmls)
    pictures += [(f'{stem}.jpg', picture)] * int(rng.choice([1, 1, 1, 2]))
    xmls += [(f'train_xml/{stem}{pick(rng, [".xml", ".xml", ".txt"])}', xml)] * int(
      rng.choice([0, 1, 1, 1, 2])
    )
  packed, byproducts = tar_of(pictures), tar_of(xmls, compressed=True)
  if rng.random() < 0.15:
    packed = mutate(rng, packed, [packed])
  if rng.random() < 0.15:
    byproducts = mutate(rng, byproducts, [byproducts])
  return {'my_img_train.tar': packed, 'imagenet_ab_v1_0.tar.gz': byproducts}


def check_imagenet_build(files, folder):
  """Runs the builder up to TFDS's writer; its summary must equal a count made with the readers."""
  for name, data in files.items():
    (folder / name).write_bytes(data)
  builder = imagenet_ab_dataset_builder.Builder(config='local', data_dir=folder / 'data')
  try:
    with contextlib.ExitStack() as builder._open:
      written = _write_all(builder, folder)
      unused = builder._xmls.unused()
  except UserError as error:
    return refusal(error)
  summary = builder._summary
  stored, xmls = _by_name(folder / 'imagenet_ab_v1_0.tar.gz', '.xml')
  kept, pictures = _by_name(folder / 'my_img_train.tar', '')
  expected = Outcome(records_in=xmls.records_in + pictures.records_in)
  expected.skipped = xmls.skipped + pictures.skipped
  with_xml = 0
  for (label, stem), (_, data) in kept.items():
    xml = stored.get((label, posixpath.splitext(stem)[0]))
    try:
      image_files.encode(data)
    except image_files.BadImage:
      expected.skipped['undecodable image'] += 1
      unused += xml is not None  # looked up, but its image is left out
      continue
    expected.records_out += 1
    with contextlib.suppress(BadRecord):
      with_xml += xml is not None and bool(imagenet_ab.parse_xml(xml[1]))
  corrupt = len(stored) - unused - with_xml
  expected.skipped['corrupt XML'] += corrupt
  expected.records_out += with_xml + unused
  assert (summary._counts['images written'], summary._counts['with XML']) == (written, with_xml), (
    f'{summary}'
  )
  assert summary._skipped == +expected.skipped, f'{summary}\nexpected {expected.skipped}'
  return expected


def _by_name(path, extension):
  """({(class, name): (file name, bytes)}, the first of each name; Outcome of the archive)."""
  outcome, kept = Outcome(), {}

  def refuse(*_):
    outcome.skipped['refused member'] += 1

  for label, name, data in reader.iter_class_members(
    path, refused=refuse, max_bytes=imagenet_ab.MAX_XML_BYTES
  ):
    stem, end = posixpath.splitext(name)
    if extension and end != extension:
      continue
    key = (label, stem if extension else name)
    if key in kept:
      outcome.skipped['XML given twice' if extension else 'image given twice'] += 1
    else:
      kept[key] = name, data
  outcome.records_in = len(kept) + outcome.skipped.total()
  return kept, outcome


def _write_all(builder, folder):
  """Runs a builder's generators and reads what they yield; returns the number of records."""
  manager, written = types.SimpleNamespace(manual_dir=folder), 0
  for examples in builder._split_generators(manager).values():
    for key, example in examples:
      builder.info.features.serialize_example(builder.info.features.encode_example(example))
      name = example['file_name']
      assert key.endswith(f'/{name}'), f'{key} has the example of {name}'
      written += 1
  return written
