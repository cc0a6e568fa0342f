"""luab_jax: learning using annotation byproducts (LUAB) in JAX and Flax."""

import contextlib
import gc
import os
from importlib.metadata import PackageNotFoundError, version

# Of single operators alone, not of reductions with what comes before them.
_SAFE_FUSIONS = (
  '--xla_cpu_experimental_ynn_fusion_type='
  'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
)


def configure_process(*, errors_only: bool = False, hide_image_errors: bool = False) -> None:
  """Configures the whole process; entry points call it before TensorFlow is imported.

  Importing luab_jax alone changes none of this. Variables set by the user take precedence.

  * TF_CPP_MIN_LOG_LEVEL=2: TensorFlow, which only reads data here, logs a page at start-up.
  * TF_ENABLE_ONEDNN_OPTS=0: oneDNN speeds up none of our ops and announces itself twice.
  * TF_USE_LEGACY_KERAS=1: TensorFlow does not find that package and skips Keras, which is not used
    here: its import takes 3 CPU-seconds instead of 7, and 160 MiB less.
  * XLA_FLAGS: with jaxlib 0.11 and 0.12.0 the mean of a bfloat16 feature map is NaN on CPU, where
    XLA passes it to YNNPACK together with the preceding BatchNorm.
  * Garbage is collected after 50,000 new objects instead of 700: looking through all that
    TensorFlow and JAX keep took 0.4 of 3 CPU-seconds at their import.

  Args:
    errors_only: absl logs only errors, as TFDS and Orbax warn of their own deprecated calls, and
      none of Orbax's: it logs 300 lines about a failed save, which it also raises.
    hide_image_errors: TF_CPP_MIN_LOG_LEVEL=3: TensorFlow's messages about damaged images, for
      commands that report those images themselves.
  """
  gc.set_threshold(50_000, 10, 10)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3' if hide_image_errors else '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  flags = os.environ.get('XLA_FLAGS', '')
  with contextlib.suppress(PackageNotFoundError):  # jaxlib's absence is reported by who needs it
    if version('jaxlib').startswith(('0.11.', '0.12.0')) and 'ynn_fusion_type' not in flags:
      os.environ['XLA_FLAGS'] = f'{flags} {_SAFE_FUSIONS}'.strip()
  if errors_only:
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    logging.get_absl_logger().addFilter(lambda record: '/orbax/' not in record.pathname)


def cores() -> int:
  """Returns how many CPU cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
