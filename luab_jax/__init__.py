"""luab_jax: learning using annotation byproducts (LUAB) in JAX and Flax."""

import contextlib
import gc
import os
from importlib.metadata import PackageNotFoundError, version

# YNNPACK gets single convolutions and dots only, no reductions fused with what precedes them.
_SAFE_FUSIONS = (
  '--xla_cpu_experimental_ynn_fusion_type='
  'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
)


def configure_process(*, errors_only: bool = False, hide_image_errors: bool = False) -> None:
  """Configures the whole process; entry points call it before TensorFlow is imported.

  Merely importing luab_jax changes none of this. Variables set by the user take precedence.

  * TF_CPP_MIN_LOG_LEVEL=2: TensorFlow only reads data here, but logs a page at start-up.
  * TF_ENABLE_ONEDNN_OPTS=0: oneDNN speeds up none of the ops used here and logs two notices.
  * TF_USE_LEGACY_KERAS=1: Keras is not used. TensorFlow does not find the legacy package and skips
    Keras, so that importing TensorFlow takes 3 CPU-seconds instead of 7 and 160 MiB less memory.
  * XLA_FLAGS: with jaxlib 0.11 and 0.12.0 the mean of a bfloat16 feature map is NaN on CPU if XLA
    passes it to YNNPACK fused with the preceding BatchNorm.
  * The garbage collector runs every 50,000 new objects instead of every 700: scanning TensorFlow's
    and JAX's objects took 0.4 of the 3 CPU-seconds of their import.

  Args:
    errors_only: absl logs errors only, because TFDS and Orbax warn about their own deprecated
      calls. Orbax's errors are hidden too: it logs 300 lines about a failed save that it also
      raises.
    hide_image_errors: sets TF_CPP_MIN_LOG_LEVEL=3, which hides TensorFlow's messages about damaged
      images; for commands that report such images themselves.
  """
  gc.set_threshold(50_000, 10, 10)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3' if hide_image_errors else '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  flags = os.environ.get('XLA_FLAGS', '')
  with contextlib.suppress(PackageNotFoundError):  # a missing jaxlib is reported where it is needed
    if version('jaxlib').startswith(('0.11.', '0.12.0')) and 'ynn_fusion_type' not in flags:
      os.environ['XLA_FLAGS'] = f'{flags} {_SAFE_FUSIONS}'.strip()
  if errors_only:
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    logging.get_absl_logger().addFilter(lambda record: '/orbax/' not in record.pathname)


def cores() -> int:
  """Returns the number of CPU cores available to this process."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
