"""LUAB on the embedded synthetic release: does looking where people clicked help?

Paper: none; "ours", a small stand-in for ImageNet-AB (synthetic shapes on textures that go with
the class in 70 % of the training images).
Command: `make quickstart` (generates and builds the data first), or, once they are built,
`python run.py --config=configs/quickstart.py`.
Hardware: 2 CPU cores.
"""

import ml_collections


def get_config():
  """The quickstart experiment; every key can be set as --config.KEY=VALUE."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.init_from = ''  # pretrained weights: a .safetensors or .pth of timm, a .npz of augreg
  c.batch_size = 64
  c.num_epochs = 12.0
  c.total_steps = 0  # above 0: this many steps instead of num_epochs
  c.log_every = 20
  c.eval_every_epochs = 4.0
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
  c.data.data_dir = 'data/quickstart'
  c.data.train_split = 'train[:90%]'
  # The release has clicks on training images alone, so a tenth of those shows the click error.
  c.data.eval_splits = {
    'correlated': 'validation',
    'uncorrelated': 'uncorrelated',
    'heldout_clicks': 'train[90%:]',
  }
  c.data.image_size = 48
  c.data.eval_resize = 48
  c.data.resize_method = 'bilinear'
  c.data.antialias = True
  c.data.crop_scale = (0.5, 1.0)
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
  c.data.shuffle_buffer = 4096

  c.model = ml_collections.ConfigDict()
  c.model.name = 'tiny_conv'
  c.model.head = 'spatial'
  c.model.dtype = 'float32'
  c.model.normalisation = 'imagenet'  # mean and deviation of pixels; 'half': 0.5, 0.5
  c.model.sync_batch_norm = True  # the same result on any number of cores

  c.loss = ml_collections.ConfigDict()
  c.loss.label_smoothing = 0.0
  c.loss.point_weight = 30.0
  c.loss.point_schedule = 'constant'
  c.loss.point_warmup_steps = 0
  c.loss.point_loss = 'smooth_l1'
  c.loss.smooth_l1_beta = 1.0

  c.optimizer = ml_collections.ConfigDict()
  c.optimizer.name = 'sgd'
  c.optimizer.learning_rate = 0.1
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
  c.study.spatial_point_weight = 30.0
  c.study.data_fractions = ()  # of the training images
  c.study.byproduct_fractions = ()  # of the images with byproducts; 0 may be one of them
  return c
