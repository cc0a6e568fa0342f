"""ResNet-18 on the mini release: 283 photographs of raccoons and kangaroos with simulated clicks.

Paper: none; an end-to-end run on real photographs, which are too few to learn from.
Command, once the data are built:
`tfds build tfds_builders/imagenet_ab --config=local --manual_dir=../shared/mini_release/imagenet_ab
--data_dir=data/mini`, then `python run.py --config=configs/mini_release.py --workdir=runs/mini`.
Hardware: 2 CPU cores, 2 minutes. Expected: top-1 0.512 on 80 images
(measured with per-device BatchNorm; it is synchronised now).
"""

from configs import default


def get_config():
  """ResNet-18 at 64 px."""
  c = default.get_config()
  c.batch_size = 32
  c.num_epochs = 3.0
  c.log_every = 5
  c.eval_every_epochs = 0.0
  c.checkpoint_every_steps = 200

  c.data.name = 'imagenet_ab/local'
  c.data.data_dir = 'data/mini'
  c.data.train_split = 'train[:90%]'
  c.data.eval_splits = {'validation': 'validation', 'heldout_clicks': 'train[90%:]'}
  c.data.image_size = 64
  c.data.eval_resize = 72
  c.data.crop_scale = (0.25, 1.0)
  c.data.shuffle_buffer = 512

  c.model.name = 'resnet18'
  c.model.head = 'spatial'
  c.model.dtype = 'float32'
  c.model.sync_batch_norm = True  # the same result on any number of cores

  c.loss.label_smoothing = 0.0
  c.loss.point_weight = 10.0

  c.optimizer.learning_rate = 0.02
  c.optimizer.warmup_epochs = 1.0
  c.optimizer.grad_clip_norm = 1.0

  c.robustness.sets = ()
  return c
