"""LUAB on a synthetic ImageNet-AB release: does it help to know where people clicked?

Paper: none; ours, a small stand-in for ImageNet-AB: synthetic shapes on textures that match the
class in 70 % of the training images.
Command: `make quickstart` (generates and builds the data first), or, once they are built,
`python run.py --config=configs/quickstart.py`.
Hardware: 2 CPU cores, 3 minutes. Expected: top-1 0.93 to 0.98 on correlated and on uncorrelated
backgrounds, depending on the CPU; click error 0.08 of the image.
"""

from configs import default


def get_config():
  """The quickstart experiment."""
  c = default.get_config()
  c.batch_size = 64
  c.num_epochs = 12.0
  c.log_every = 20
  c.eval_every_epochs = 4.0
  c.checkpoint_every_steps = 200

  c.data.name = 'imagenet_ab/local'
  c.data.data_dir = 'data/quickstart'
  c.data.train_split = 'train[:90%]'
  # Only training images have clicks, so a tenth of them is held out to measure the click error.
  c.data.eval_splits = {
    'correlated': 'validation',
    'uncorrelated': 'uncorrelated',
    'heldout_clicks': 'train[90%:]',
  }
  c.data.image_size = 48
  c.data.eval_resize = 48
  c.data.resize_method = 'bilinear'
  c.data.crop_scale = (0.5, 1.0)
  c.data.shuffle_buffer = 4096

  c.model.name = 'tiny_conv'
  c.model.head = 'spatial'
  c.model.dtype = 'float32'
  c.model.sync_batch_norm = True  # the same result on any number of cores

  c.loss.label_smoothing = 0.0
  c.loss.point_weight = 30.0

  c.optimizer.learning_rate = 0.1
  c.optimizer.warmup_epochs = 1.0
  c.optimizer.grad_clip_norm = 1.0

  c.robustness.sets = ()

  c.study.linear_model = 'tiny_deep'
  c.study.linear_point_weight = 3.0
  c.study.spatial_point_weight = 30.0
  return c
