"""luab_jax: learning using annotation byproducts (LUAB) in JAX and Flax."""

import os

# TensorFlow only reads data here. Said before its first import, these keep its start-up chatter
# out of the console; oneDNN would change nothing but announce itself twice.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

# For programs that do not need Keras, to be set before TensorFlow is imported: it then looks for a
# package that is not there, and does without. Imported in 3 CPU-seconds instead of 7, and 160 MiB
# less. Not set here, as who imports this package may want Keras.
WITHOUT_KERAS = ('TF_USE_LEGACY_KERAS', '1')


def cores() -> int:
  """Returns how many CPU cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def hide_damaged_images():
  """Keeps off the console what TensorFlow logs of a damaged image, for programs that say it too.

  To be called before TensorFlow is imported. Only our default is raised: TF_CPP_MIN_LOG_LEVEL=1,
  set by the user, brings it back.
  """
  if os.environ['TF_CPP_MIN_LOG_LEVEL'] == '2':
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
