"""From TFRecords to batches. TensorFlow only reads data, so GPUs are hidden from it."""

import tensorflow as tf

tf.config.set_visible_devices([], 'GPU')
