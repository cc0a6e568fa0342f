"""`--mode=doctor`: whether this machine is ready for a run, and what to fix first if it is not.

It takes seconds, downloads nothing and writes nothing but compiled steps.
"""

import glob
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from ml_collections import ConfigDict

from luab_jax.errors import UserError
from luab_jax.tools import cli

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'numpy')
_DATA_DIR = '~/tensorflow_datasets'
_MIN_FREE = 2e9  # bytes for checkpoints, logs and a report


def examine(config: ConfigDict | None, workdir: str | os.PathLike) -> int:
  """Checks this machine and prints the findings, with a line marked FIX for each problem.

  Args:
    config: the config of a planned run, if there is one.
    workdir: folder of that run.

  Returns:
    The exit status: 0 if ready, 2 if something must be fixed.
  """
  problems = []
  for lines in (
    _versions(),
    _devices(config),
    _tensorflow(),
    _disk(workdir),
    _data_sets(config),
    _training_step(),
  ):
    try:
      for line in lines:
        print(line, flush=True)
    except UserError as error:
      print(f'  FIX: {error}', flush=True)
      problems.append(error)
  print(f'not ready; fix first: {problems[0]}' if problems else 'ready', flush=True)
  return 2 if problems else 0


def _versions() -> Iterator[str]:
  yield f'Python {platform.python_version()}, {platform.machine()}, {platform.system()}'
  try:
    yield 'packages: ' + ', '.join(f'{name} {version(name)}' for name in _PACKAGES)
  except PackageNotFoundError as error:
    raise UserError(f'{error.name} is not installed: pip install -e .') from error


def _devices(config: ConfigDict | None) -> Iterator[str]:
  import jax

  from luab_jax.runtime import parallel

  cli.start_runtime(config)
  device = jax.devices()[0]
  yield (
    f'devices: {jax.device_count()} x {device.device_kind} (platform {device.platform}), '
    f'{jax.local_device_count()} of them on this host, {jax.process_count()} process(es)'
  )
  if device.platform == 'cpu' and not os.environ.get('JAX_PLATFORMS'):
    for files, name, extra in (
      ('/dev/nvidia[0-9]*', 'an NVIDIA GPU', 'cuda13'),
      ('/dev/accel*', 'a TPU', 'tpu'),
    ):
      if glob.glob(files):
        raise UserError(
          f'this machine has {name}, but JAX runs on its CPU: pip install -e ".[{extra}]", see '
          '"Machines" in docs/running.md'
        )
  if config:
    parallel.check_batch_size(config.batch_size, config.optimizer.grad_accum_steps)


def _tensorflow() -> Iterator[str]:
  import tensorflow as tf

  from luab_jax.data import pipeline  # noqa: F401 (hides accelerators from TensorFlow)

  taken = [d.name for d in tf.config.get_visible_devices() if d.device_type != 'CPU']
  if taken:
    raise UserError(
      f'TensorFlow would take {", ".join(taken)} away from JAX: pip uninstall -y tensorflow '
      'tensorflow-tpu; pip install --force-reinstall --no-deps tensorflow-cpu'
    )
  yield f'TensorFlow {tf.__version__}: sees no accelerator, as it should'


def _disk(workdir: str | os.PathLike) -> Iterator[str]:
  path = pathlib.Path(workdir).absolute()
  folder = next(p for p in (path, *path.parents) if p.exists())
  free = shutil.disk_usage(folder).free
  yield f'workdir: {workdir}, {free / 1e9:.1f} GB free'
  if not folder.is_dir() or not os.access(folder, os.W_OK):
    raise UserError(f'{folder} cannot be written: choose another --workdir')
  if free < _MIN_FREE:
    raise UserError(
      f'{folder} has less than {_MIN_FREE / 1e9:.0f} GB free: free some space, or change --workdir'
    )


def _data_sets(config: ConfigDict | None) -> Iterator[str]:
  from luab_jax.data import tfrecords

  if config:
    builder = tfrecords.open_builder(config.data.name, config.data.data_dir)
    for name in (config.data.train_split, *config.data.eval_splits.values()):
      split = tfrecords.open_split(builder, name)
      yield f'data: {config.data.name}, {name}: {split.num_examples:,} examples'
  else:
    root = pathlib.Path(_DATA_DIR).expanduser()
    names = [p.relative_to(root).as_posix() for p in sorted(root.glob('*_ab/*'))]
    names = [name for name in names if tfrecords.find_version(name, _DATA_DIR)]
    yield f'data sets in {_DATA_DIR}: {", ".join(names) or "none"}'


def _training_step() -> Iterator[str]:
  from luab_jax.tools import self_check

  try:
    yield self_check.check_step()
  except RuntimeError as error:  # JAX's errors are RuntimeErrors
    raise UserError(
      f'a training step fails ({" ".join(str(error).split()):.300}): see "Machines" in '
      'docs/running.md for what to install'
    ) from error
