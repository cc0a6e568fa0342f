"""TFDS's own way to pack a tar of class tars, as its imagenet2012 does: the peer of our build."""

import io
import pathlib

import tensorflow_datasets as tfds


class ImagesAlone(tfds.core.GeneratorBasedBuilder):
  """Images, file names and labels from `my_img_train.tar` and `my_img_val.tar`."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Written by benchmarks/imagenet_ab_build.py.'

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(),
          'label': tfds.features.Text(),
          'file_name': tfds.features.Text(),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    folder = pathlib.Path(dl_manager.manual_dir)
    return {
      split: self._generate_examples(dl_manager.iter_archive(folder / name))
      for split, name in (('train', 'my_img_train.tar'), ('validation', 'my_img_val.tar'))
    }

  def _generate_examples(self, archive):
    for class_name, file in archive:
      images = tfds.download.iter_archive(
        io.BytesIO(file.read()), tfds.download.ExtractMethod.TAR_STREAM
      )
      for name, image in images:
        yield name, {'image': image, 'label': class_name.removesuffix('.tar'), 'file_name': name}
