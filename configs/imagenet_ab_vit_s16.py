"""ViT-S/16 on ImageNet-AB with the paper's head: two more outputs on the class token.

Paper: "Neglected Free Lunch" (ICCV 2023), section 4. Its exact hyper-parameters are not available;
this is the standard recipe of a plain ViT-S/16 on ImageNet (Beyer et al. 2022, arXiv:2205.01580:
AdamW 1e-3 at 1,024 images, gradient clipping, 300 epochs; their decay of 1e-4 is not multiplied by
the learning rate, so it is 0.1 here), with the λ that helped the linear head on synthetic data.
Command: `python run.py --config=configs/imagenet_ab_vit_s16.py`,
once `tfds build tfds_builders/imagenet_ab --config=ilsvrc2012` has built the data (README.md).
Hardware: 8 accelerators of 16 GB or more. Expected: not run.
"""

from configs import default


def get_config():
  """ViT-S/16 with the linear head."""
  c = default.get_config()
  c.num_epochs = 300.0
  c.eval_every_epochs = 10.0

  c.model.name = 'vit_s16'

  c.optimizer.name = 'adamw'
  c.optimizer.learning_rate = 1e-3
  c.optimizer.warmup_epochs = 8.0
  c.optimizer.weight_decay = 0.1
  c.optimizer.grad_clip_norm = 1.0
  return c
