"""A builder config that says how large images are stored."""

import dataclasses

import tensorflow_datasets as tfds

from luab_jax.data.image_files import Reduction


@dataclasses.dataclass(eq=False, kw_only=True)
class ImageConfig(tfds.core.BuilderConfig):
  """A config; its name begins with the kind of its raw files, as in local_short288.

  Attributes:
    short_side: in pixels; images with a longer short side are stored reduced to it. 0: all keep
      their size.
    jpeg_quality: of reduced images.
  """

  short_side: int = 0
  jpeg_quality: int = Reduction._field_defaults['quality']

  @property
  def is_local(self) -> bool:
    """Whether the raw files are a user's own."""
    return self.name.startswith('local')

  @property
  def reduction(self) -> Reduction | None:
    """The reduction of large images; None: all keep their size."""
    return Reduction(self.short_side, self.jpeg_quality) if self.short_side else None

  @property
  def metadata(self) -> tfds.core.MetadataDict:
    """The entries of metadata.json."""
    return tfds.core.MetadataDict(self.reduction._asdict() if self.reduction else {})


def with_reduced(*configs: ImageConfig) -> list[ImageConfig]:
  """Returns the configs, and each again with images reduced to a short side of at most 288 pixels.

  With 288, resizing to 256 for a centre crop of 224, as evaluation does, still is a reduction.
  """
  reduced = [
    dataclasses.replace(
      config,
      name=f'{config.name}_short288',
      description=f'{config.description} Images are reduced to a short side of at most 288 px.',
      short_side=288,
    )
    for config in configs
  ]
  return [*configs, *reduced]
