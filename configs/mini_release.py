"""ResNet-18 on the mini release: 284 real photographs of raccoons and kangaroos, simulated clicks.

Paper: none; shows that real photographs pass through everything. Too few images to learn from.
Command, once the data are built:
`tfds build tfds_builders/imagenet_ab --config=local --manual_dir=../shared/mini_release/imagenet_ab
--data_dir=data/mini`, then `python run.py --config=configs/mini_release.py --workdir=runs/mini`.
Hardware: 2 CPU cores.
"""

import ml_collections


def get_config():
  """ResNet-18 at 64 px; every key can be set as --config.KEY=VALUE."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.init_from = ''  # pretrained weights: a .safetensors or .pth of timm, a .npz of augreg
  c.batch_size = 32
  c.num_epochs = 3.0
  c.total_steps = 0  # above 0: this many steps instead of num_epochs
  c.log_every = 5
  c.eval_every_epochs = 0.0
  c.checkpoint_every_steps = 200
  c.keep_checkpoints = 2
  c.keep_every_steps = 0  # checkpoints of these multiples stay too; 0: none
  c.keep_best = ''  # 'validation/top1': the best one stays too; '-split/figure': lowest is best
  c.on_nan = 'stop'  # a loss that is not finite: 'stop', or 'skip' the step
  c.preemption_grace_seconds = 30.0  # from SIGTERM or SIGINT to the end, saving included
  c.report_images = 12  # pictures in each grid of report.html; 0: no report
  c.wandb = False  # also on Weights & Biases; needs `pip install wandb`

  c.data = ml_collections.ConfigDict()
  c.data.name = 'imagenet_ab/local'
  c.data.data_dir = 'data/mini'
  c.data.train_split = 'train[:90%]'
  c.data.eval_splits = {'validation': 'validation', 'heldout_clicks': 'train[90%:]'}
  c.data.image_size = 64
  c.data.eval_resize = 72
  c.data.resize_method = 'bicubic'
  c.data.antialias = True
  c.data.crop_scale = (0.25, 1.0)
  c.data.crop_ratio = (3 / 4, 4 / 3)
  c.data.flip = True
  c.data.color_jitter = 0.0
  c.data.byproduct = 'click'
  c.data.trace_points = 8
  c.data.click = 'mean'
  c.data.icons = 'replayed'
  c.data.icon_label = 'drop_when_icon_cropped'
  c.data.byproduct_fraction = 1.0  # of the images keep their clicks or icons in training
  c.data.control = 'none'
  c.data.shuffle_buffer = 512

  c.model = ml_collections.ConfigDict()
  c.model.name = 'resnet18'
  c.model.head = 'spatial'
  c.model.dtype = 'float32'
  c.model.normalisation = 'imagenet'  # mean and deviation of pixels; 'half': 0.5, 0.5
  c.model.sync_batch_norm = False

  c.loss = ml_collections.ConfigDict()
  c.loss.label_smoothing = 0.0
  c.loss.point_weight = 10.0
  c.loss.point_schedule = 'constant'
  c.loss.point_warmup_steps = 0
  c.loss.point_loss = 'smooth_l1'
  c.loss.smooth_l1_beta = 1.0

  c.optimizer = ml_collections.ConfigDict()
  c.optimizer.name = 'sgd'
  c.optimizer.learning_rate = 0.02
  c.optimizer.warmup_epochs = 1.0
  c.optimizer.momentum = 0.9
  c.optimizer.beta1 = 0.9
  c.optimizer.beta2 = 0.999
  c.optimizer.weight_decay = 1e-4
  c.optimizer.grad_clip_norm = 1.0
  c.optimizer.grad_accum_steps = 1
  c.optimizer.ema_decay = 0.0

  c.robustness = ml_collections.ConfigDict()
  c.robustness.sets = ()  # ImageNet's shifted versions need a model of ImageNet's 1000 classes
  c.robustness.data_dir = '~/tensorflow_datasets'

  # --mode=study: λ tuned for each head, and the shares of its sweeps, such as (0.1, 0.25, 0.5, 1).
  c.study = ml_collections.ConfigDict()
  c.study.seeds = 5
  c.study.linear_point_weight = 0.3
  c.study.spatial_point_weight = 10.0
  c.study.data_fractions = ()  # of the training images
  c.study.byproduct_fractions = ()  # of the images with byproducts; 0 may be one of them
  return c
