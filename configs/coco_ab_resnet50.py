"""ResNet-50 on COCO-AB: 80 sigmoid classes and one icon position for each class in the picture.

Paper: "Neglected Free Lunch" (ICCV 2023), section 4. Its exact hyper-parameters are not at hand;
this is a standard recipe from random weights (SGD, 0.1 per 256 images, 60 epochs). The icons are
those left after replaying the history, where the authors take every `add`; their reading is
--config.data.icons=adds_only.
Command: `python run.py --config=configs/coco_ab_resnet50.py`,
once `tfds build tfds_builders/coco_ab --config=2014` has built the data (README.md).
From ImageNet weights, as COCO is usually trained, at a tenth of the learning rate for 20 epochs:
`python run.py --config=configs/coco_ab_resnet50.py --config.init_from=resnet50.a1_in1k.safetensors
--config.optimizer.learning_rate=0.01 --config.num_epochs=20`, where the file is the
model.safetensors of timm/resnet50.a1_in1k on the Hugging Face hub (or timm/resnet50.tv_in1k,
torchvision's; torchvision's own resnet50-0676ba61.pth does as well).
Hardware: one accelerator of 40 GB, or 4 of 16 GB. Expected: not run.
"""

import ml_collections


def get_config():
  """ResNet-50 with the linear head; every key can be set as --config.KEY=VALUE."""
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.init_from = ''  # pretrained weights: a .safetensors or .pth of timm, a .npz of augreg
  c.batch_size = 256
  c.num_epochs = 60.0
  c.total_steps = 0  # above 0: this many steps instead of num_epochs
  c.log_every = 50
  c.eval_every_epochs = 5.0
  c.checkpoint_every_steps = 1000
  c.keep_checkpoints = 2
  c.keep_every_steps = 0  # checkpoints of these multiples stay too; 0: none
  c.keep_best = ''  # 'validation/top1': the best one stays too; '-split/figure': lowest is best
  c.on_nan = 'stop'  # a loss that is not finite: 'stop', or 'skip' the step
  c.preemption_grace_seconds = 30.0  # from SIGTERM or SIGINT to the end, saving included
  c.report_images = 12  # pictures in each grid of report.html; 0: no report
  c.wandb = False  # also on Weights & Biases; needs `pip install wandb`

  c.data = ml_collections.ConfigDict()
  c.data.name = 'coco_ab/2014'
  c.data.data_dir = '~/tensorflow_datasets'
  c.data.train_split = 'train[:99%]'
  # The validation images have no icons: a hundredth of the training images shows their error.
  c.data.eval_splits = {'validation': 'validation', 'heldout_icons': 'train[99%:]'}
  c.data.image_size = 224
  c.data.eval_resize = 256
  c.data.resize_method = 'bicubic'
  c.data.antialias = True
  c.data.crop_scale = (0.08, 1.0)
  c.data.crop_ratio = (3 / 4, 4 / 3)
  c.data.flip = True
  c.data.color_jitter = 0.4
  c.data.byproduct = 'click'
  c.data.trace_points = 8
  c.data.click = 'mean'
  c.data.icons = 'replayed'
  c.data.icon_label = 'drop_when_icon_cropped'
  c.data.byproduct_fraction = 1.0  # of the images keep their clicks or icons in training
  c.data.control = 'none'
  c.data.shuffle_buffer = 4096

  c.model = ml_collections.ConfigDict()
  c.model.name = 'resnet50'
  c.model.head = 'linear'
  c.model.dtype = 'bfloat16'
  c.model.normalisation = 'imagenet'  # mean and deviation of pixels; 'half': 0.5, 0.5
  c.model.sync_batch_norm = False

  c.loss = ml_collections.ConfigDict()
  c.loss.label_smoothing = 0.0
  c.loss.point_weight = 0.3
  c.loss.point_schedule = 'constant'
  c.loss.point_warmup_steps = 0
  c.loss.point_loss = 'smooth_l1'
  c.loss.smooth_l1_beta = 1.0

  c.optimizer = ml_collections.ConfigDict()
  c.optimizer.name = 'sgd'
  c.optimizer.learning_rate = 0.1
  c.optimizer.warmup_epochs = 3.0
  c.optimizer.momentum = 0.9
  c.optimizer.beta1 = 0.9
  c.optimizer.beta2 = 0.999
  c.optimizer.weight_decay = 1e-4
  c.optimizer.grad_clip_norm = 0.0
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
