"""`--mode=doctor`: what this machine has and lacks for a run, line by line, and what to mend first.

Looks and computes for seconds, writes nothing but compiled steps, downloads nothing. What keeps a
run from starting is marked 'MEND', what may surprise is marked 'note'.
"""

import collections
import contextlib
import glob
import os
import pathlib
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version

from luab_jax.errors import UserError

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'numpy')
_TENSORFLOWS = ('tensorflow-cpu', 'tensorflow', 'tensorflow-tpu')
_OURS = ('imagenet_ab', 'coco_ab')
_DATA_DIR = '~/tensorflow_datasets'
_LEAST_ROOM = 2e9  # bytes for checkpoints, logs and a report
_CUDA_13_DRIVER = 580  # the oldest, as JAX's installation page says


class Diagnosis:
  """The lines said so far and what is to be mended."""

  def __init__(self):
    self._host = ''
    self._mend = []

  def name_host(self, index: int):
    """Puts the number of the process before each further line."""
    self._host = f'[process {index}] '

  def say(self, text: str):
    """Prints a line."""
    print(self._host + text, flush=True)

  def note(self, text: str):
    """Something that stops no run."""
    self.say(f'  note: {text}')

  def mend(self, text: str):
    """Something that does."""
    self._mend.append(text)
    self.say(f'  MEND: {text}')

  @contextlib.contextmanager
  def mending(self):
    """What a UserError raised inside says is to be mended."""
    try:
      yield
    except UserError as error:
      self.mend(str(error))

  @contextlib.contextmanager
  def noting(self):
    """What a UserError raised inside says stops no run."""
    try:
      yield
    except UserError as error:
      self.note(str(error))

  def verdict(self) -> int:
    """Says the last line; the exit status."""
    if not self._mend:
      self.say('ready')
      return 0
    self.say(f'not ready; mend first: {self._mend[0]}')
    return 2


def examine(config, workdir) -> int:
  """Examines this machine and prints what it finds.

  Args:
    config: ml_collections.ConfigDict of the run that is planned; None for none in particular.
    workdir: of that run.
  Returns:
    The exit status: 0 ready, 2 something is to be mended.
  """
  found = Diagnosis()
  _versions(found, config)
  if not _devices(found, config):
    return found.verdict()
  _tensorflow(found)
  _disk(found, config, workdir)
  _data_sets(found, config)
  _self_test(found)
  return found.verdict()


def _installed(package):
  try:
    return version(package)
  except PackageNotFoundError:
    return None


def _versions(found, config):
  found.say(f'Python {platform.python_version()}, {platform.machine()}, {platform.system()}')
  there = {name: _installed(name) for name in (*_PACKAGES, *_TENSORFLOWS)}
  found.say('packages: ' + ', '.join(f'{name} {v}' for name, v in there.items() if v))
  missing = [name for name in _PACKAGES if not there[name]]
  tensorflows = [name for name in _TENSORFLOWS if there[name]]
  if missing or not tensorflows:
    found.mend(
      f'{", ".join(missing) or "TensorFlow"} is not installed: pip install -r requirements.txt'
    )
  if len(tensorflows) > 1 or 'tensorflow-tpu' in tensorflows:
    why = (
      'tensorflow-tpu takes the TPU away from JAX'
      if 'tensorflow-tpu' in tensorflows
      else f'{" and ".join(tensorflows)} overwrite each other'
    )
    found.note(
      f'{why}: pip uninstall -y {" ".join(tensorflows)}; '
      'pip install --force-reinstall --no-deps tensorflow-cpu'
    )
  if config and config.wandb and not _installed('wandb'):
    found.mend('config.wandb=True, but the package is not there: pip install wandb')


def _devices(found, config):
  """Starts JAX and says on what; False where it does not start."""
  try:
    import jax

    from luab_jax.runtime import compile_cache, hosts, parallel

    compile_cache.use_compile_cache()
    parts = (config.batch_size, config.optimizer.grad_accum_steps) if config else (64,)
    hosts.use_cpu_cores(*parts)
    hosts.start_hosts()
    hosts.start_devices()
    devices = jax.devices()
  except UserError as error:
    found.mend(str(error))
    return False
  except (ImportError, RuntimeError, AttributeError) as error:
    found.mend(
      f'JAX does not start ({" ".join(str(error).split()):.300}): pip install -U '
      '"jax" with the wheel of this machine, see "Machines" in docs/running.md'
    )
    return False
  if jax.process_count() > 1:
    found.name_host(jax.process_index())
  found.say(
    f'devices: {len(devices)} x {devices[0].device_kind} (platform '
    f'{devices[0].platform}), {jax.local_device_count()} of them here, '
    f'{jax.process_count()} process(es)'
  )
  _unused_hardware(found, devices[0].platform, jax.__version__)
  if config:
    with found.mending():
      parallel.check_batch_size(*parts)
  return True


def _unused_hardware(found, platform_name, jax_version):
  """Accelerators that JAX leaves alone, for want of the right wheel or because it was told to."""
  gpus, wheel = _nvidia(found)
  if glob.glob('/dev/accel*') or os.environ.get('TPU_WORKER_ID') or os.environ.get('TPU_NAME'):
    unused = ('a TPU', 'tpu') if platform_name != 'tpu' else None
  elif gpus:
    found.say(f'NVIDIA: {"; ".join(gpus)} (driver)')
    unused = (f'{len(gpus)} NVIDIA GPU(s)', wheel) if platform_name == 'cpu' else None
  elif os.path.exists('/dev/kfd'):
    unused = ('an AMD GPU', 'rocm7-local') if platform_name == 'cpu' else None
  else:
    unused = None
  if unused and os.environ.get('JAX_PLATFORMS'):
    found.note(
      f'this machine has {unused[0]}, and JAX_PLATFORMS={os.environ["JAX_PLATFORMS"]} '
      'keeps JAX from it'
    )
  elif unused:
    found.mend(
      f'this machine has {unused[0]}, but JAX runs on {platform_name}: pip install '
      f'"jax[{unused[1]}]=={jax_version}"'
    )


def _nvidia(found):
  """(['name, driver version'], the extra of JAX that suits the driver) as nvidia-smi says."""
  command = ['nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader']
  if not shutil.which(command[0]):
    return [], ''
  try:
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
  except (OSError, subprocess.SubprocessError) as error:
    found.note(f'nvidia-smi fails, so the driver may not be loaded ({error})')
    return [], ''
  gpus = [line.strip() for line in result.stdout.splitlines() if line.strip()]
  driver = gpus[0].rpartition(',')[2].strip().partition('.')[0] if gpus else ''
  return gpus, 'cuda13' if driver.isdigit() and int(driver) >= _CUDA_13_DRIVER else 'cuda12'


def _tensorflow(found):
  try:
    import tensorflow as tf

    from luab_jax.data import pipeline  # noqa: F401 (hides GPUs from TensorFlow)
  except (ImportError, TypeError, AttributeError) as error:  # also two builds in one folder
    found.mend(
      f'TensorFlow cannot be imported ({" ".join(str(error).split()):.200}): '
      'pip install --force-reinstall --no-deps tensorflow-cpu'
    )
    return
  seen = [d.name for d in tf.config.list_physical_devices() if d.device_type != 'CPU']
  used = [d.name for d in tf.config.get_visible_devices() if d.device_type != 'CPU']
  found.say(f'TensorFlow sees: {", ".join(seen) if seen else "no accelerator, as it should"}')
  if used:
    found.mend(
      f'TensorFlow would take {", ".join(used)} away from JAX: pip uninstall -y '
      'tensorflow tensorflow-tpu; pip install --force-reinstall --no-deps tensorflow-cpu'
    )
  elif seen:
    found.note('it is kept off them; tensorflow-cpu is enough here')


def _disk(found, config, workdir):
  import jax

  cache = jax.config.jax_compilation_cache_dir
  data_dir = config.data.data_dir if config else _DATA_DIR
  for name, folder in (('workdir', workdir), ('data_dir', data_dir), ('compile cache', cache)):
    if not folder:
      found.say(f'{name}: none')
      continue
    path = pathlib.Path(folder).expanduser().absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(there).free
    found.say(f'{name}: {folder}, {_size(free)} free' + ('' if there == path else ', to be made'))
    if name == 'workdir' and (not there.is_dir() or not os.access(there, os.W_OK)):
      found.mend(f'{there} cannot be written: choose another --workdir')
    elif name == 'workdir' and free < _LEAST_ROOM:
      found.mend(
        f'{folder} has less than {_size(_LEAST_ROOM)} free: make room, or choose another --workdir'
      )


def _data_sets(found, config):
  from luab_jax.data import tfrecords as records

  data_dir = config.data.data_dir if config else _DATA_DIR
  root = pathlib.Path(data_dir).expanduser()
  names = [str(p.relative_to(root)) for top in _OURS for p in sorted(root.glob(f'{top}/*'))]
  names = [name for name in names if records.find_version(name, data_dir)]
  found.say(f'data sets in {data_dir}: {len(names) or "none"} of {", ".join(_OURS)}')
  for name in names:
    with found.noting():
      found.say(f'  {_described(records, [name], data_dir)}')
  if config:
    with found.mending():
      builder = records.open_builder(config.data.name, config.data.data_dir)
      for split in (config.data.train_split, *config.data.eval_splits.values()):
        records.open_split(builder, split)
  _robustness(found, records, config.robustness.data_dir if config else _DATA_DIR)


def _robustness(found, records, data_dir):
  from luab_jax.evaluate import robustness

  absent = []
  for name, parts in robustness.SETS.items():
    names = {part.data for part in parts}
    there = sorted(part for part in names if records.find_version(part, data_dir))
    if not there:
      absent.append(name)
      continue
    some = f', {len(there)} of its {len(names)} parts' if len(names) > 1 else ''
    with found.noting():
      found.say(f'  {_described(records, there, data_dir)}{some}')
  if absent:
    found.say(f'robustness sets not prepared in {data_dir}: {", ".join(absent)}')


def _described(records, names, data_dir):
  """Version, splits and size of a data set, or of the parts of one added up.

  Raises UserError where a file is missing or damaged.
  """
  counts, size = collections.Counter(), 0
  for name in names:
    builder = records.open_builder(name, data_dir)
    for split, info in builder.info.splits.items():
      counts[split] += info.num_examples
      size += info.num_bytes
      if info.num_examples:
        records.open_split(builder, split)
  told = ', '.join(f'{split} {count:,}' for split, count in sorted(counts.items()))
  name = names[0] if len(names) == 1 else names[0].partition('/')[0]
  return f'{name} {builder.info.version}: {told} examples; {_size(size)}'


def _self_test(found):
  with found.mending():
    try:
      from luab_jax.tools import self_check

      for check in (self_check.check_step, self_check.check_pipeline):
        started = time.time()
        found.say(f'self test: {check()} ({time.time() - started:.1f} s)')
    except (ImportError, RuntimeError) as error:  # JAX's own are RuntimeErrors
      raise UserError(
        f'the self test fails ({type(error).__name__}: '
        f'{" ".join(str(error).split()):.300}): see "Machines" in docs/running.md '
        'for what to install'
      ) from error


def _size(count):
  return f'{count / 1e9:.1f} GB' if count >= 1e8 else f'{count / 1e6:.1f} MB'
