"""The configs of coco_ab: which raw files each is built from, and where they are."""

import dataclasses
import pathlib
from types import ModuleType

import tensorflow_datasets as tfds

from luab_jax.byproducts import coco_ab, localized_narratives
from luab_jax.byproducts.archives import reader
from luab_jax.errors import UserError
from tfds_builders.coco_ab import narratives, records
from tfds_builders.coco_ab.join import COCO_URL
from tfds_builders.image_config import ImageConfig


@dataclasses.dataclass(eq=False, kw_only=True)
class CocoConfig(ImageConfig):
  """A config of coco_ab.

  Attributes:
    narrated: whether the byproducts are those of Localized Narratives, on COCO 2017, instead of
      COCO-AB's, on COCO 2014.
  """

  narrated: bool = False

  @property
  def byproducts(self) -> ModuleType:
    """The module with the features of the byproducts."""
    return narratives if self.narrated else records

  @property
  def counts(self) -> tuple[str, ...]:
    """Names of the counts in the summary of a build."""
    own = ('narratives', 'with a narrative', 'icons', 'utterances', 'trace points')
    if not self.narrated:
      own = ('records', 'with a record', 'icons', 'actions', 'trace points')
    return 'images', 'instances', *own

  @property
  def splits(self) -> dict[str, str]:
    """{split: folder in its zip}."""
    year = 2017 if self.narrated else 2014
    return {'train': f'train{year}', 'validation': f'val{year}'}

  @property
  def annotations(self) -> str:
    """Name of the zip with the instances files."""
    return f'annotations_trainval{self.splits["train"][-4:]}.zip'

  @property
  def urls(self) -> dict[str, str]:
    """{name: URL} of all files but narratives; those of `2014` and `narratives` have checksums."""
    zips = {f'{folder}.zip': f'{COCO_URL}/zips/{folder}.zip' for folder in self.splits.values()}
    zips[self.annotations] = f'{COCO_URL}/annotations/{self.annotations}'
    return zips if self.narrated else zips | {coco_ab.FILE_NAME: coco_ab.URL}

  @property
  def narrative_files(self) -> tuple[str, ...]:
    """Names of the files with narratives, for which no checksum is published."""
    return localized_narratives.FILE_NAMES if self.narrated else ()


def find_files(config: CocoConfig, dl_manager) -> dict[str, pathlib.Path]:
  """Returns {name: path} of the raw files; those not in `config.urls` are narratives.

  Raises:
    UserError: a file is missing, has another checksum or could not be downloaded.
  """
  found, by_hand = {}, config.urls if config.is_local else {}
  if config.narrated:
    folder = _manual_dir(config, dl_manager)
    own = [path.name for path in folder.glob('*_localized_narratives*.jsonl') if config.is_local]
    urls = {name: f'{localized_narratives.URL}/{name}' for name in own or config.narrative_files}
    by_hand = by_hand | urls
  for name, url in by_hand.items():
    found[name] = reader.require(_manual_dir(config, dl_manager) / name, url)
  return found if config.is_local else found | _download(config, dl_manager)


def _manual_dir(config: CocoConfig, dl_manager) -> pathlib.Path:
  try:
    return pathlib.Path(dl_manager.manual_dir)
  except AssertionError as error:  # raised by TFDS for a missing or empty folder
    names = [*(config.urls if config.is_local else ()), *config.narrative_files]
    raise UserError(
      f'{str(error).splitlines()[0]}: give --manual_dir a folder with {", ".join(names)}'
    ) from error


def _download(config: CocoConfig, dl_manager) -> dict[str, pathlib.Path]:
  try:
    # A file of the registered name in manual_dir is used instead, and verified too.
    return dl_manager.download(config.urls)
  except tfds.download.download_manager.NonMatchingChecksumError as error:
    what = ' '.join(str(error).partition('To debug')[0].split())
    own = 'local_narratives' if config.narrated else 'local'
    raise UserError(
      f'{what}: get the file again, or build other files with --config={own}'
    ) from error
  except (OSError, tfds.download.DownloadError) as error:
    raise UserError(
      f'a download failed ({" ".join(str(error).split())}): put {", ".join(config.urls)} '
      'into a folder and give it as --manual_dir'
    ) from error
