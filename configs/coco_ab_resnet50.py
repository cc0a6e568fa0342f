"""ResNet-50 on COCO-AB: 80 sigmoid classes and one icon position for each class in the image.

Paper: "Neglected Free Lunch" (ICCV 2023), section 4. Its exact hyper-parameters are not available;
this is a standard recipe from random weights (SGD, 0.1 per 256 images, 60 epochs). The icons are
those left after replaying the history; the authors take every `add`, which is
--config.data.icons=adds_only. Only classes with an instance in the image have an icon position
(the authors); --config.data.icon_points=all takes every icon.
Command: `python run.py --config=configs/coco_ab_resnet50.py`,
once `tfds build tfds_builders/coco_ab --config=2014` has built the data (README.md).
From ImageNet weights, as COCO is usually trained, at a tenth of the learning rate for 20 epochs:
`python run.py --config=configs/coco_ab_resnet50.py --config.init_from=resnet50.a1_in1k.safetensors
--config.optimizer.learning_rate=0.01 --config.num_epochs=20`, where the file is the
model.safetensors of timm/resnet50.a1_in1k on the Hugging Face hub (or timm/resnet50.tv_in1k,
torchvision's; torchvision's own resnet50-0676ba61.pth works as well).
Hardware: one accelerator of 40 GB, or 4 of 16 GB. Expected: not run.
"""

from configs import default


def get_config():
  """ResNet-50 with the linear head."""
  c = default.get_config()
  c.batch_size = 256
  c.num_epochs = 60.0
  c.log_every = 50

  c.data.name = 'coco_ab/2014'
  c.data.eval_splits = {'validation': 'validation', 'heldout_icons': 'train[99%:]'}
  c.data.color_jitter = 0.4
  c.data.shuffle_buffer = 4096

  c.loss.label_smoothing = 0.0

  c.optimizer.learning_rate = 0.1
  c.optimizer.warmup_epochs = 3.0

  c.robustness.sets = ()
  return c
