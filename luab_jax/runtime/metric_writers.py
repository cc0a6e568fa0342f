"""Metric writers: TensorBoard, and Weights & Biases if `config.wandb` is set.

Both show the contents of metrics.jsonl, with the config and a few images. Nothing is read back from
them, and if one fails the run continues without it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import tqdm
from ml_collections import ConfigDict
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.runtime import hosts
from luab_jax.runtime.workdir import flatten, write_text

_MAX_IMAGES = 8  # per call: they are all stored again at every start
# TensorBoard sorts groups of charts by name: 'main', with the metrics to see first, then 'more'.
_MAIN = frozenset(('loss', 'class_loss', 'point_loss', 'map_loss', 'top1', 'mAP', 'click_error'))


class CaptionedImage(Protocol):
  """An encoded image with its caption, such as `html.Image` of the report."""

  content: bytes
  caption: str


def open_metric_writers(
  workdir: pathlib.Path, config: ConfigDict, *, verbose: bool = True
) -> MetricWriters:
  """The metric writers of a run, a context manager; empty on all but the main host.

  Args:
    workdir: existing folder of the run.
    config: of the run; `wandb` and `report_images` are read.
    verbose: False for one of many runs: no images, no messages.

  Raises:
    UserError: config.wandb is set, but the package is not installed or there is no login.
  """
  num_images = min(config.report_images, _MAX_IMAGES) if verbose else 0
  writers = MetricWriters(num_images, verbose=verbose)
  if hosts.is_main_host():
    plain = json.loads(config.to_json_best_effort())
    if config.wandb:
      writers.add(WeightsAndBiases, workdir, plain, verbose)
    writers.add(TensorBoard, workdir, plain)
  return writers


class MetricWriters:
  """All metric writers of a run; without any, every method does nothing."""

  def __init__(self, num_images: int = 0, *, verbose: bool = True):
    self._writers: list[TensorBoard | WeightsAndBiases] = []
    self._num_images = num_images
    self._verbose = verbose

  @property
  def num_images(self) -> int:
    """How many images to draw for one call of `images`; 0 without writers."""
    return self._num_images if self._writers else 0

  def add(self, kind: type[TensorBoard] | type[WeightsAndBiases], *arguments: Any) -> None:
    """Opens a writer of class `kind`; a UserError propagates."""
    with self._dropping_failed(kind.name):
      self._writers.append(kind(*arguments))

  def scalars(self, step: int, split: str, metrics: dict[str, Any]) -> None:
    """Writes {name: number} of one step; values that are not numbers are skipped."""
    values = {
      f'{split}/{name}': value for name, value in metrics.items() if isinstance(value, int | float)
    }
    self._each(lambda writer: writer.scalars(step, values))

  def images(self, step: int, name: str, images: Sequence[CaptionedImage]) -> None:
    """Writes the first `num_images` of the images."""
    chosen: list[tuple[Image.Image, str]] = [
      (Image.open(io.BytesIO(image.content)), image.caption) for image in images[: self.num_images]
    ]
    if chosen:
      self._each(lambda writer: writer.images(step, name, chosen))

  def finish(self, summary: dict[str, Any], report: pathlib.Path | None) -> None:
    """Writes the contents of summary.json and of report.html, if there is one."""
    self._each(lambda writer: writer.finish(summary, report))

  def __enter__(self) -> MetricWriters:
    return self

  def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
    self._each(lambda writer: writer.close(done=error is None))

  def _each(self, write: Callable[[TensorBoard | WeightsAndBiases], None]) -> None:
    for writer in list(self._writers):
      with self._dropping_failed(writer.name, writer):
        write(writer)

  @contextlib.contextmanager
  def _dropping_failed(
    self, name: str, writer: TensorBoard | WeightsAndBiases | None = None
  ) -> Iterator[None]:
    """If the code inside fails (full disk, lost network), that writer ends, but not the run."""
    try:
      yield
    except UserError:
      raise
    except Exception as error:
      if writer:
        self._writers.remove(writer)
      if self._verbose:
        _print(
          f'{name} cannot be written ({type(error).__name__}: '
          f'{" ".join(str(error).split()):.200}); the run continues without it'
        )


def _print(text: str) -> None:
  with contextlib.suppress(OSError):  # stderr is often a file on the disk that is full
    tqdm.tqdm.write(text, file=sys.stderr)


class TensorBoard:
  """Event files in <workdir>/tensorboard: scalars, images, and the config as hyper-parameters.

  Scalars are named 'main/top1/train', 'more/learning_rate/train' etc., so that the charts of a
  metric are next to each other.
  """

  name = 'TensorBoard'

  def __init__(self, workdir: pathlib.Path, config: dict[str, Any]):
    import tensorflow as tf

    # `hparams.api` is the same but needs Keras, see luab_jax.configure_process.
    from tensorboard.plugins.hparams import summary_v2 as hparams

    tf.config.set_visible_devices([], 'GPU')
    self._summary = tf.summary
    self._writer = tf.summary.create_file_writer(str(workdir / 'tensorboard'))
    values = {
      key: value if isinstance(value, bool | int | float | str) else str(value)
      for key, value in flatten(config).items()
    }
    # The HParams dashboard shows the run's own scalars as metrics.
    self._write(hparams.hparams_pb(values, trial_id=str(workdir.resolve())))

  def _write(self, message: Any) -> None:
    with self._writer.as_default():
      self._summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
    self._writer.flush()

  def scalars(self, step: int, values: dict[str, float]) -> None:
    with self._writer.as_default():
      for key, value in values.items():
        split, _, name = key.rpartition('/')
        group = 'main' if name in _MAIN else 'more'
        self._summary.scalar(f'{group}/{name}/{split}', value, step=step)
    self._writer.flush()

  def images(self, step: int, name: str, images: list[tuple[Image.Image, str]]) -> None:
    import numpy as np

    with self._writer.as_default():
      for number, (image, caption) in enumerate(images):
        self._summary.image(
          f'{name}/{number}', np.asarray(image)[None], step=step, description=caption
        )
    self._writer.flush()

  def finish(self, summary: dict[str, Any], report: pathlib.Path | None) -> None:
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary as hparams

    self._write(hparams.session_end_pb(api_pb2.STATUS_SUCCESS))

  def close(self, done: bool) -> None:
    self._writer.close()


class WeightsAndBiases:
  """A run on wandb.ai, or as set by WANDB_MODE and the package's other variables.

  A resumed run continues there too: <workdir>/wandb_id.txt holds its id. Steps that it repeats
  after its checkpoint have already been logged and are not logged again.
  """

  name = 'Weights & Biases'

  def __init__(self, workdir: pathlib.Path, config: dict[str, Any], verbose: bool):
    try:
      import wandb
    except ImportError as error:
      raise UserError(
        'config.wandb=True needs a package that is not installed: pip install "wandb>=0.31"'
      ) from error
    self._wandb = wandb
    identity = workdir / 'wandb_id.txt'
    if not identity.exists():
      write_text(identity, secrets.token_hex(8))
    options: dict[str, Any] = {
      'project': os.environ.get('WANDB_PROJECT', 'luab_jax'),
      'name': str(workdir),
      'id': identity.read_text(encoding='utf-8').strip(),
      'resume': 'allow',
      'dir': str(workdir),
      'config': config,
      # Without a network, a run waits 5 minutes at its end; `wandb sync` uploads the rest later.
      'settings': wandb.Settings(console='off', silent=not verbose, finish_timeout=300),
    }
    try:
      self._run = wandb.init(**options)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
      raise UserError(
        f'config.wandb: {" ".join(str(error).split())} Or set WANDB_MODE=offline, and upload later '
        'with `wandb sync`'
      ) from error
    except wandb.errors.CommError as error:
      _print(
        f'{self.name} cannot be reached ({" ".join(str(error).split()):.200}): '
        f'logged to {workdir}/wandb for a later `wandb sync`'
      )
      wandb.teardown()  # otherwise its service takes the second run with this id for the first
      self._run = wandb.init(**options, mode='offline')

  def scalars(self, step: int, values: dict[str, float]) -> None:
    self._run.log(values, step=step)

  def images(self, step: int, name: str, images: list[tuple[Image.Image, str]]) -> None:
    captioned = [self._wandb.Image(image, caption=caption) for image, caption in images]
    self._run.log({name: captioned}, step=step)

  def finish(self, summary: dict[str, Any], report: pathlib.Path | None) -> None:
    self._run.summary.update(flatten(summary))
    if report:
      page = self._wandb.Html(report.read_text(encoding='utf-8'), inject=False)
      self._run.log({'report': page}, step=summary['step'])

  def close(self, done: bool) -> None:
    self._run.finish(exit_code=0 if done else 1)
