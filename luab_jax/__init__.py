"""luab_jax: learning using annotation byproducts (LUAB) in JAX and Flax."""

import os

# TensorFlow only reads data here. Said before its first import, these keep its start-up chatter
# out of the console; oneDNN would change nothing but announce itself twice.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
