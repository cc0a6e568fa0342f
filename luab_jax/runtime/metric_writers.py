"""Where a run is watched: TensorBoard, and Weights & Biases where `config.wandb` asks for it.

Both show what metrics.jsonl holds, with the config and a few pictures. They are for people:
nothing is read back from them, and one that fails is given up, while the run goes on.
"""

import contextlib
import io
import json
import os
import secrets
import sys

import tqdm
from PIL import Image

from luab_jax.errors import UserError
from luab_jax.runtime import hosts
from luab_jax.runtime import workdir as run_folder

_MOST_PICTURES = 8  # at a time: every one of them is stored again with each run


def open_boards(workdir, config, *, quiet=False):
  """The boards of a run, to be closed by `with`; none on other than the main host.

  Args:
    workdir: pathlib.Path of the run, which exists.
    config: of the run; `wandb` and `report_images` count.
    quiet: one of many runs: no pictures and no words.
  Raises:
    UserError: config.wandb without the package, or without being logged in.
  """
  boards = Boards(0 if quiet else min(config.report_images, _MOST_PICTURES), quiet=quiet)
  if hosts.is_main_host():
    plain = json.loads(config.to_json_best_effort())
    if config.wandb:
      boards.add(WeightsAndBiases, workdir, plain, quiet)
    boards.add(TensorBoard, workdir, plain)
  return boards


class Boards:
  """All boards of a run; without any, every method does nothing."""

  def __init__(self, num_pictures=0, *, quiet=False):
    self._boards = []
    self._most = num_pictures
    self._quiet = quiet

  @property
  def num_pictures(self):
    """How many pictures at a time are wanted, 0 where nobody would see them."""
    return self._most if self._boards else 0

  def add(self, kind, *arguments):
    """Opens a board of a class; a UserError is the caller's."""
    with self._giving_up(kind.name):
      self._boards.append(kind(*arguments))

  def scalars(self, step: int, split: str, figures: dict):
    """Shows {name: number} of one step; what is no number is left out."""
    values = {
      f'{split}/{name}': value for name, value in figures.items() if isinstance(value, int | float)
    }
    self._each(lambda board: board.scalars(step, values))

  def pictures(self, step: int, name: str, pictures):
    """Shows the first of some `page.Picture`s."""
    chosen = [
      (Image.open(io.BytesIO(picture.content)), picture.caption)
      for picture in pictures[: self.num_pictures]
    ]
    if chosen:
      self._each(lambda board: board.pictures(step, name, chosen))

  def finish(self, summary: dict, report):
    """Shows what summary.json holds and the path of report.html (None: there is none)."""
    self._each(lambda board: board.finish(summary, report))

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    self._each(lambda board: board.close(done=error is None))

  def _each(self, show):
    for board in list(self._boards):
      with self._giving_up(board.name, board):
        show(board)

  @contextlib.contextmanager
  def _giving_up(self, name, board=None):
    """Whatever goes wrong with a board inside, full disk or lost network, ends that board alone."""
    try:
      yield
    except UserError:
      raise
    except Exception as error:
      if board:
        self._boards.remove(board)
      self._say(
        f'{name} cannot be written ({type(error).__name__}: '
        f'{" ".join(str(error).split()):.200}); the run goes on without'
      )

  def _say(self, text):
    if not self._quiet:
      with contextlib.suppress(OSError):  # stderr is often a file on the disk that is full
        tqdm.tqdm.write(text, file=sys.stderr)


class TensorBoard:
  """Event files in <workdir>/tensorboard: scalars, images, and the config as hyper-parameters."""

  name = 'TensorBoard'

  def __init__(self, workdir, config):
    import tensorflow as tf

    # Not its `api`, which is the same and needs Keras (luab_jax.WITHOUT_KERAS).
    from tensorboard.plugins.hparams import summary_v2 as hparams

    tf.config.set_visible_devices([], 'GPU')
    self._summary = tf.summary
    self._writer = tf.summary.create_file_writer(str(workdir / 'tensorboard'))
    values = {
      key: value if isinstance(value, bool | int | float | str) else str(value)
      for key, value in run_folder.flatten(config).items()
    }
    # The figures that belong to them are the run's own scalars.
    self._write(hparams.hparams_pb(values, trial_id=str(workdir.resolve())))

  def _write(self, message):
    with self._writer.as_default():
      self._summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
    self._writer.flush()

  def scalars(self, step, values):
    with self._writer.as_default():
      for name, value in values.items():
        self._summary.scalar(name, value, step=step)
    self._writer.flush()

  def pictures(self, step, name, pictures):
    import numpy as np

    with self._writer.as_default():
      for number, (image, caption) in enumerate(pictures):
        self._summary.image(
          f'{name}/{number}', np.asarray(image)[None], step=step, description=caption
        )
    self._writer.flush()

  def finish(self, summary, report):
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary as hparams

    self._write(hparams.session_end_pb(api_pb2.STATUS_SUCCESS))

  def close(self, done):
    self._writer.close()


class WeightsAndBiases:
  """A run at wandb.ai, or as WANDB_MODE and the other variables of that package say.

  One that is started again goes on there, too: <workdir>/wandb_id.txt has its id. Steps which it
  repeats, as they came after the checkpoint, are shown already and not taken a second time.
  """

  name = 'Weights & Biases'

  def __init__(self, workdir, config, quiet):
    try:
      import wandb
    except ImportError as error:
      raise UserError(
        'config.wandb=True needs a package that is not installed: pip install "wandb>=0.31"'
      ) from error
    self._wandb = wandb
    identity = workdir / 'wandb_id.txt'
    if not identity.exists():
      run_folder.write_text(identity, secrets.token_hex(8))
    options = {
      'project': os.environ.get('WANDB_PROJECT', 'luab_jax'),
      'name': str(workdir),
      'id': identity.read_text(encoding='utf-8').strip(),
      'resume': 'allow',
      'dir': str(workdir),
      'config': config,
      # Without a network the end of a run waits for 5 minutes, and `wandb sync` uploads the rest.
      'settings': wandb.Settings(console='off', silent=quiet, finish_timeout=300),
    }
    try:
      self._run = wandb.init(**options)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
      raise UserError(
        f'config.wandb: {" ".join(str(error).split())} Or set WANDB_MODE=offline, and upload later '
        'with `wandb sync`'
      ) from error
    except wandb.errors.CommError as error:
      with contextlib.suppress(OSError):
        tqdm.tqdm.write(
          f'{self.name} cannot be reached ({" ".join(str(error).split()):.200}): '
          f'kept in {workdir}/wandb for `wandb sync`',
          file=sys.stderr,
        )
      wandb.teardown()  # or its service takes the second run of this id for the first one
      self._run = wandb.init(**options, mode='offline')

  def scalars(self, step, values):
    self._run.log(values, step=step)

  def pictures(self, step, name, pictures):
    images = [self._wandb.Image(image, caption=caption) for image, caption in pictures]
    self._run.log({name: images}, step=step)

  def finish(self, summary, report):
    self._run.summary.update(run_folder.flatten(summary))
    if report:
      page = self._wandb.Html(report.read_text(encoding='utf-8'), inject=False)
      self._run.log({'report': page}, step=summary['step'])

  def close(self, done):
    self._run.finish(exit_code=0 if done else 1)
