"""Every config key with its comment and source; the values are those of ResNet-50 on ImageNet-AB.

An experiment starts from this config and sets what differs. The config is locked, so setting a key
that is not here is an error. `python run.py --config=… --help_config` lists the keys with the
values of an experiment and these comments.

We could not check the paper's hyper-parameters (section 4 of arXiv:2303.17595), so the values are
the usual recipe for ResNet-50 on ImageNet. "Ours" marks a choice of this project, with the reason
where there is one, instead of a source.
"""

import ml_collections


def get_config():
  """The default config, locked; any key can be set with --config.KEY=VALUE."""
  c = ml_collections.ConfigDict()
  # Seed of the initial weights, data order and augmentation; any signed 64-bit integer.
  c.seed = 0
  # Pretrained weights: a .safetensors or .pth file of timm or torchvision, or an .npz of augreg.
  # '': random initialization.
  c.init_from = ''
  # Images per step, over all devices and hosts.
  c.batch_size = 1024
  # Passes over the training images; 90 is usual for ResNet-50 on ImageNet (Goyal et al. 2017,
  # arXiv:1706.02677).
  c.num_epochs = 90.0
  # If above 0, train for this many steps instead of num_epochs.
  c.total_steps = 0
  # Steps between training lines in metrics.jsonl.
  c.log_every = 100
  # Epochs between evaluations; 0: only at the end.
  c.eval_every_epochs = 5.0
  # Steps between checkpoints.
  c.checkpoint_every_steps = 1000
  # How many of the newest checkpoints to keep.
  c.keep_checkpoints = 2
  # Also keep checkpoints at multiples of this many steps; 0: none.
  c.keep_every_steps = 0
  # Also keep the best checkpoint by SPLIT/METRIC, such as validation/top1; prefix a minus if lower
  # is better.
  c.keep_best = ''
  # What to do if a loss, gradient or parameter is not finite: stop the run, or skip (and count) the
  # step.
  c.on_nan = 'stop'
  # Seconds from SIGTERM or SIGINT to exit, including the time to save; 30 is Google Cloud's notice
  # of preemption.
  c.preemption_grace_seconds = 30.0
  # Images in each grid of report.html; 0: no report.
  c.report_images = 12
  # First and last step to trace for TensorBoard's profiler, such as (100, 105); (): none.
  c.profile_steps = ()
  # Also log to Weights & Biases (pip install wandb).
  c.wandb = False

  # Which data to read and how to augment them.
  c.data = ml_collections.ConfigDict()
  # TFDS name, as built by tfds_builders.
  c.data.name = 'imagenet_ab/ilsvrc2012'
  # Folder of the prepared data.
  c.data.data_dir = '~/tensorflow_datasets'
  # TFDS split to train on. ImageNet's validation images have no clicks, so a hundredth of the
  # training images is held out to measure the click error.
  c.data.train_split = 'train[:99%]'
  # {name: TFDS split} of every split to evaluate.
  c.data.eval_splits = {'validation': 'validation', 'heldout_clicks': 'train[99%:]'}
  # Side of the square crop in pixels (224 in the authors' notebooks).
  c.data.image_size = 224
  # Evaluation resizes the shorter side to this many pixels and takes the centre crop (torchvision).
  c.data.eval_resize = 256
  # bicubic (the authors' ImageNet-AB notebook) or bilinear (their COCO-AB notebook); with
  # antialias, both match PIL's pixels, which the notebooks use. bilinear without antialias reads
  # 1.6 times as many images per CPU-second (docs/benchmarks.md).
  c.data.resize_method = 'bicubic'
  # Whether downscaling averages over pixels, as PIL does, instead of skipping some.
  c.data.antialias = True
  # Smallest and largest area of a random crop, as a fraction of the image (Szegedy et al. 2015,
  # arXiv:1409.4842; torchvision's RandomResizedCrop and the authors' notebooks).
  c.data.crop_scale = (0.08, 1.0)
  # Smallest and largest aspect ratio of a random crop (same source).
  c.data.crop_ratio = (3 / 4, 4 / 3)
  # Flip half of the training images horizontally.
  c.data.flip = True
  # Strength of random changes of brightness, contrast and saturation; 0: none. The authors'
  # notebooks use 0 on ImageNet-AB and 0.4 on COCO-AB.
  c.data.color_jitter = 0.0
  # none, randaugment (Cubuk et al. 2020, arXiv:1909.13719) or trivial (TrivialAugmentWide, Müller
  # and Hutter 2021, arXiv:2103.10158), with torchvision's operations and ranges; points move with
  # the pixels.
  c.data.augment = 'none'
  # Number of operations that randaugment applies to an image (torchvision's default).
  c.data.augment_ops = 2
  # Magnitude of randaugment, 0 to 30 (torchvision's scale and default; big_vision's maximum of 10
  # is 30 here).
  c.data.augment_magnitude = 9
  # Probability of erasing a rectangle of a training image, and the points in it (Zhong et al. 2020,
  # arXiv:1708.04896: 0.5).
  c.data.random_erasing = 0.0
  # MixUp: the mixing weight is drawn from Beta(alpha, alpha); 0: no MixUp; usually 0.2 (Zhang et
  # al. 2018, arXiv:1710.09412). Points are weighted like their image.
  c.data.mixup_alpha = 0.0
  # CutMix alpha; 0: no CutMix; usually 1.0 (Yun et al. 2019, arXiv:1905.04899). With MixUp too,
  # each step applies one of the two.
  c.data.cutmix_alpha = 0.0
  # click (COCO-AB: icon), or trace: the mouse path up to the click (Localized Narratives: the whole
  # path).
  c.data.byproduct = 'click'
  # Number of points that a trace is resampled to (ours).
  c.data.trace_points = 8
  # ImageNet-AB: an image may have been selected more than once; mean (the authors' notebook)
  # averages the first click of each selection, first and last take the first or last click of all.
  # ClickMe: peak or centroid of the heat map (ours).
  c.data.click = 'mean'
  # COCO-AB: replayed, the icons left after the history is replayed (ours), or adds_only, every icon
  # added, including those moved or removed later (the authors' notebook). Localized Narratives:
  # named, the mouse position while the class was first named (ours).
  c.data.icons = 'replayed'
  # COCO-AB: with_instance (the authors' notebook) uses only icons of classes with an instance in
  # the image, in training and for the click error; all uses every icon.
  c.data.icon_points = 'with_instance'
  # COCO-AB: drop_when_icon_cropped (the authors' notebook) drops the label of a class whose icon is
  # outside the crop; keep does not.
  c.data.icon_label = 'drop_when_icon_cropped'
  # Fraction of the training images that keep their byproducts.
  c.data.byproduct_fraction = 1.0
  # ImageNet-AB: use the byproducts of a training image only if the worker took at least this many
  # ms to decide (estimateTime); 0: no limit. The authors' group trains on 1 to 2,999 ms.
  c.data.min_estimate_ms = 0
  # ImageNet-AB: and only if the worker took at most this many ms; 0: no limit.
  c.data.max_estimate_ms = 0
  # ImageNet-AB: use only byproducts of workers who took at least this many ms on average over all
  # images they selected; 0: no limit. Of 1,705 workers, 25 took less than 200 ms.
  c.data.min_worker_ms = 0
  # ImageNet-AB: use at most this many byproducts of each worker, a fixed random choice; 0: no
  # limit.
  c.data.max_per_worker = 0
  # Control experiment: none, shuffled (clicks of other images) or uniform (uniformly random
  # clicks).
  c.data.control = 'none'
  # Records in the shuffle buffers of all hosts together; 8,192 of ImageNet take 0.9 GB. Ours: TFDS
  # has already shuffled the records in the files.
  c.data.shuffle_buffer = 8192

  # The network.
  c.model = ml_collections.ConfigDict()
  # resnet18 to resnet152, convnext_t, convnext_s, vit_ti16, vit_s16, vit_b16, vit_l16, tiny_conv,
  # tiny_deep or tiny_vit.
  c.model.name = 'resnet50'
  # linear: two extra outputs on the pooled features (the paper). spatial: the expected position
  # under an attention map, which also pools the features for the classifier (ours).
  c.model.head = 'linear'
  # Compute dtype, bfloat16 or float32; parameters, losses and metrics are float32.
  c.model.dtype = 'bfloat16'
  # Mean and standard deviation of the pixels: imagenet (torchvision's), or half: 0.5 and 0.5
  # (augreg).
  c.model.normalisation = 'imagenet'
  # BatchNorm statistics over all devices; False: per device (PyTorch's default).
  c.model.sync_batch_norm = False
  # ViT pooling: token (a class token) or gap (the mean of the patch tokens; Beyer et al. 2022,
  # arXiv:2205.01580).
  c.model.vit_pool = 'token'
  # ViT position embeddings: learned, or sincos2d (fixed; same source).
  c.model.vit_positions = 'learned'
  # Stochastic depth: probability that an image skips the last residual branch; it increases
  # linearly from 0 at the first (Huang et al. 2016, arXiv:1603.09382).
  c.model.drop_path = 0.0
  # Dropout rate of the pooled features before the head.
  c.model.dropout = 0.0
  # Recompute the activations of each block in the backward pass: saves memory, takes about a third
  # more time.
  c.model.remat = False
  # Train only the head (linear probe); the backbone stays as loaded, including its BatchNorm
  # statistics.
  c.model.freeze_backbone = False

  # Cross-entropy plus point_weight times the point loss plus map_weight times the map loss.
  c.loss = ml_collections.ConfigDict()
  # Label smoothing; 0.1 is usual on ImageNet (Szegedy et al. 2016, arXiv:1512.00567).
  c.loss.label_smoothing = 0.1
  # λ, the weight of the point loss; 0 trains without it. Ours: 0.3 for the linear head and 10 or 30
  # for the spatial head did best on synthetic data (docs/study.md). The only λ that the authors'
  # group has published is 0.5 with smooth L1, in the training loop of a student, not of the paper.
  c.loss.point_weight = 0.3
  # Schedule of λ: constant, warmup (from 0) or cosine (down to 0).
  c.loss.point_schedule = 'constant'
  # Steps of the warmup schedule of λ.
  c.loss.point_warmup_steps = 0
  # smooth_l1 (Girshick 2015, arXiv:1504.08083), l1 or l2.
  c.loss.point_loss = 'smooth_l1'
  # Error at which smooth_l1 changes from quadratic to linear, in fractions of the crop.
  c.loss.smooth_l1_beta = 1.0
  # none, or a loss on the spatial head's attention maps (linear head: on the class activation map):
  # gaussian (cross-entropy with a Gaussian around the point; ours), energy (1 - the share of the
  # map inside that Gaussian; Rao et al. 2023, arXiv:2303.11932, use boxes) or background (share of
  # the map farther than map_radius from the point; ours). ClickMe: heatmap (cross-entropy with the
  # heat map; ours). See docs/running.md.
  c.loss.map_loss = 'none'
  # Weight of the map loss, with the schedule of the point loss; set point_weight=0 to train on the
  # map loss alone. Ours; 1 finds boxes better, but harms if few images have clicks (docs/study.md).
  c.loss.map_weight = 0.3
  # Standard deviation of the Gaussian, in fractions of the crop. Ours: one cell of a 12 x 12 grid;
  # on 3 x 3 cells, wider ones gave a lower top-1 (docs/study.md).
  c.loss.map_sigma = 0.08
  # Radius of the background loss, in fractions of the crop. Ours, not tuned.
  c.loss.map_radius = 0.2

  # The optimizer; its learning rate follows a cosine decay to 0 (Loshchilov and Hutter 2017,
  # arXiv:1608.03983).
  c.optimizer = ml_collections.ConfigDict()
  # sgd (with Nesterov momentum) or adamw.
  c.optimizer.name = 'sgd'
  # Peak learning rate; for SGD on ImageNet 0.1 per 256 images (Goyal et al. 2017, like warm-up,
  # momentum and weight decay). Scale it with the batch size.
  c.optimizer.learning_rate = 0.4
  # Epochs of linear warm-up from 0.
  c.optimizer.warmup_epochs = 5.0
  # Momentum of sgd.
  c.optimizer.momentum = 0.9
  # First-moment decay of adamw.
  c.optimizer.beta1 = 0.9
  # Second-moment decay of adamw.
  c.optimizer.beta2 = 0.999
  # Weight decay of kernels only, not of biases and norms; adamw decouples it from the gradient.
  c.optimizer.weight_decay = 1e-4
  # Learning rate of the head, as a multiple of learning_rate.
  c.optimizer.head_rate = 1.0
  # Layer-wise learning rate decay: learning rate of each layer (ViT: block; ResNet, ConvNeXt:
  # stage) as a multiple of the next layer's; below 1 for fine-tuning (Bao et al. 2022,
  # arXiv:2106.08254). 1: the same for all.
  c.optimizer.layer_decay = 1.0
  # Global norm to which the gradient is clipped; 0: no clipping.
  c.optimizer.grad_clip_norm = 0.0
  # Micro-batches per step, for batches that do not fit in memory.
  c.optimizer.grad_accum_steps = 1
  # Decay of the exponential moving averages of parameters and BatchNorm statistics, which are then
  # evaluated and exported (timm's ModelEmaV2); at most (1 + step) / (10 + step). 0: no averaging.
  c.optimizer.ema_decay = 0.0

  # MaxBoxAccV2, top-1 localisation and pointing games, where the data set has bounding boxes.
  c.localization = ml_collections.ConfigDict()
  # Number of images per split for localisation during training; the final evaluation and
  # --mode=eval use all images. 0: none during training. Ours: a map takes about 10 ms of a CPU
  # core.
  c.localization.max_images = 5000

  # Distribution-shifted versions of ImageNet (docs/robustness.md), for models with its 1,000
  # classes.
  c.robustness = ml_collections.ConfigDict()
  # Sets evaluated at the end and by --mode=eval, if TFDS has prepared them.
  c.robustness.sets = (
    'imagenet2012',
    'imagenet2012_real',
    'imagenet_v2',
    'imagenet_r',
    'imagenet_a',
    'imagenet_sketch',
    'imagenet2012_corrupted',
    'siscore',
    'backgrounds_challenge',
  )
  # Folder of the prepared sets.
  c.robustness.data_dir = '~/tensorflow_datasets'

  # Runs of --mode=study (docs/study.md).
  c.study = ml_collections.ConfigDict()
  # Seeds per arm.
  c.study.seeds = 5
  # Model of the arms with the linear head; '': model.name. The linear head learns positions only if
  # the cells that it averages have wide receptive fields.
  c.study.linear_model = ''
  # λ of the arms with the linear head; ours, tuned on synthetic data.
  c.study.linear_point_weight = 0.3
  # λ of the arms with the spatial head; ours, tuned on synthetic data.
  c.study.spatial_point_weight = 10.0
  # loss.map_loss of the arms with a map loss; 'none': no such arms.
  c.study.map_loss = 'gaussian'
  # loss.map_weight of the arms with a map loss.
  c.study.map_weight = 0.3
  # Arms to train, by name; () for all of them.
  c.study.arms = ()
  # Regular expression: images whose file names have the same first group count as one in the
  # confidence intervals, such as '_([0-9]+)_' for composites of one photograph. '': every image
  # counts.
  c.study.unit = ''
  # Sweep over these fractions of the training images, such as (0.1, 0.25, 0.5, 1); (): no sweep.
  c.study.data_fractions = ()
  # Sweep over these fractions of the images with byproducts, which may include 0; (): no sweep.
  c.study.byproduct_fractions = ()
  return c.lock()
