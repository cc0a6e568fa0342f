"""LUAB with several classes per image on a synthetic COCO-AB release.

Paper: none; ours, the counterpart of configs/quickstart.py for multi-label data: the spatial head
has one map for each of the 80 classes, few of which occur in the data.
Command, once the data are built as README.md shows:
`python run.py --config=configs/quickstart_coco.py --workdir=runs/quickstart_coco`.
Hardware: 2 CPU cores, 3 minutes. Expected: mAP 0.650, icon error 0.173 of the image.
"""

from configs import default


def get_config():
  """The COCO quickstart."""
  c = default.get_config()
  c.batch_size = 64
  c.num_epochs = 12.0
  c.log_every = 20
  c.eval_every_epochs = 4.0
  c.checkpoint_every_steps = 200

  c.data.name = 'coco_ab/local'
  c.data.data_dir = 'data/quickstart_coco'
  c.data.train_split = 'train[:90%]'
  # Only training images have icons, so a tenth of them is held out to measure the icon error.
  c.data.eval_splits = {'validation': 'validation', 'heldout_icons': 'train[90%:]'}
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
  c.loss.point_weight = 10.0

  c.optimizer.learning_rate = 0.1
  c.optimizer.warmup_epochs = 1.0
  c.optimizer.grad_clip_norm = 1.0

  c.robustness.sets = ()
  return c
