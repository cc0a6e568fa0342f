"""Builds the images and heat maps of ClickMe, see README.md here."""

import itertools
import pathlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from luab_jax.errors import UserError
from tfds_builders import build_summary, content_digest
from tfds_builders.clickme import release


class Builder(tfds.core.GeneratorBasedBuilder):
  """ImageNet images with heat maps of the parts that mattered to people."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'The TFRecords that Harmonization (2022) published.'}
  BUILDER_CONFIGS = [
    tfds.core.BuilderConfig(name='released', description='All 318 + 17 shards.'),
    tfds.core.BuilderConfig(name='local', description='Whichever shards are present.'),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'python -m tfds_builders.clickme.download --out=RAW downloads the shards '
    '(train/train-0.tfrecords ..., val/val-0.tfrecords ...); give RAW as manual_dir. '
    'We could not find their licence.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the metadata."""
    image = tfds.features.Image
    features = {
      'image': image(shape=(*release.SIZE, 3), encoding_format='jpeg', doc='As released.'),
      'heatmap': image(
        shape=(*release.SIZE, 1),
        encoding_format='jpeg',
        doc='How much people clicked each pixel of the image, 0 to 255; as released.',
      ),
      'label': tfds.features.ClassLabel(
        names_file=str(tfds.core.tfds_path('datasets/imagenet2012/labels.txt')),
        doc='ImageNet class, as released.',
      ),
      'file_name': tfds.features.Text(doc='<shard>/<record>, such as train-3/17.'),
    }
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/serre-lab/Harmonization',
      metadata=tfds.core.MetadataDict(),
    )

  def download_and_prepare(self, **kwargs) -> None:
    """Builds the data set and prints a summary of the input; a UserError stops it."""
    self._summary = None
    build_summary.warn_about_beam(self.name, kwargs.get('download_config'))
    with build_summary.one_line_errors(self.data_dir_root):
      super().download_and_prepare(**kwargs)
      if self._summary:
        print(self._summary)

  def _split_generators(self, dl_manager):
    try:
      manual_dir = pathlib.Path(dl_manager.manual_dir)
    except (AssertionError, OSError) as error:
      raise UserError(' '.join(str(error).split())) from error
    name = self.builder_config.name
    shards = release.find(manual_dir, complete=name == 'released')
    build_summary.check_room(self.data_dir_root, itertools.chain.from_iterable(shards.values()))
    self._summary = build_summary.BuildSummary(
      f'{self.name}/{name}', ('images read', 'shards read', 'images written')
    )
    return {
      split: content_digest.digested(self._generate_examples(paths), self.info.metadata, split)
      for split, paths in shards.items()
    }

  def _generate_examples(self, shards: list[pathlib.Path]) -> Iterator[tuple[str, dict]]:
    """Yields (key, example) of a split."""
    written = 0
    for path in shards:
      self._summary.add('shards read')
      for place, data in release.read_shard(path):
        self._summary.add('images read')
        try:
          record = release.parse(data)
        except release.BadRecord as error:
          self._summary.skip('bad record', f'{path}: record {place.number}', error)
          continue
        written += 1
        self._summary.add('images written')
        yield place.name, {**record._asdict(), 'file_name': place.name}
    self._summary.check()
    if not written:
      raise UserError(f'{shards[0].parent} holds no usable record: get the shards again')
