"""ResNet-50 on ImageNet-AB with the paper's head: two extra outputs on the pooled features.

Paper: "Neglected Free Lunch" (ICCV 2023), section 4, whose hyper-parameters we could not check;
this is the standard recipe for ResNet-50 on ImageNet (SGD, 0.1 per 256 images, 90 epochs, label
smoothing), with the λ that helped the linear head on synthetic data.
Command: `python run.py --config=configs/imagenet_ab_resnet50.py`,
once `tfds build tfds_builders/imagenet_ab --config=ilsvrc2012` has built the data (docs/data.md).
Hardware: 8 accelerators of 16 GB or more. Expected: not run.
"""

from configs import default


def get_config():
  """The default config, unchanged."""
  return default.get_config()
