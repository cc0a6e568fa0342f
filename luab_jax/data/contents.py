"""Detects a data set rebuilt with other contents since a run began; its counts may be the same.

The builders keep a digest of every split in metadata.json, see tfds_builders/content_digest.py.
"""

import json
import os
import pathlib

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from luab_jax.data import tfrecords
from luab_jax.errors import UserError

Contents = dict[str, str]  # {split as built: digest}


def contents(data: ConfigDict) -> Contents:
  """The digests of all splits that a config's `data` part trains or evaluates on.

  Splits written by an older version of the builders have none.
  """
  builder = tfrecords.open_builder(data.name, data.data_dir)
  known = _read(pathlib.Path(os.fspath(builder.data_path)) / 'metadata.json')
  names = {
    part.splitname
    for spec in (data.train_split, *data.eval_splits.values())
    for part in tfds.core.ReadInstruction.from_spec(spec).to_absolute(builder.info.splits)
  }
  return {name: known[name] for name in sorted(names) if name in known}


def check_contents(before: Contents, now: Contents, data: ConfigDict) -> None:
  """Raises UserError if a split's contents `now` differ from those `before`, when the run began."""
  changed = [name for name in before if now.get(name, before[name]) != before[name]]
  if changed:
    raise UserError(
      f'{data.name} in {data.data_dir} was rebuilt with other contents (images, labels, clicks '
      f'or boxes of {", ".join(changed)}) after the run was trained on it: train again in '
      'another --workdir, or give the --config.data.data_dir of the old contents'
    )


def _read(path: pathlib.Path) -> Contents:
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (OSError, ValueError, TypeError):  # there is none, or it is not ours
    return {}
