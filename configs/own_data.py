"""Your own small data set: ResNet-18 at 224 px, with clicks where there are any (docs/own_data.md).

Paper: none; ours. The usual ResNet recipe adapted to small data sets: milder crops, a lower
learning rate and gradient clipping. Pretrained weights (--config.init_from=FILE) help most.
Command: the one that `python -m luab_jax.tools.own_data` prints,
`python run.py --config=configs/own_data.py --config.data.data_dir=data/own/built`; for several
classes per image add --config.data.name=coco_ab/local.
Hardware: one GPU, or 2 CPU cores for hundreds of images. Expected: depends on your data;
docs/own_data.md has a result on 363 photographs.
"""

from configs import default


def get_config():
  """ResNet-18 at 224 px with the spatial head."""
  c = default.get_config()
  c.batch_size = 32
  c.num_epochs = 30.0
  c.log_every = 5
  c.checkpoint_every_steps = 200

  c.data.name = 'imagenet_ab/local'
  c.data.data_dir = 'data/own/built'
  c.data.train_split = 'train'
  c.data.eval_splits = {'validation': 'validation'}  # with its clicks, if it has any
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

  # Did the clicks help? The same network without clicks, with them, with those of other images.
  c.study.arms = ('spatial_no_click', 'luab_spatial', 'point_shuffled')
  return c
