"""ResNet-50 on ClickMe: 1000 classes, the class activation map trained on people's heat maps.

Paper: none; ours. The data were collected by Linsley et al. 2019 (arXiv:1805.08819) and released by
Fel et al. 2022 (arXiv:2211.04533), who train the gradients of pretrained networks on them instead.
The click is the peak of the heat map; `--config.loss.map_loss=none --config.loss.point_weight=0.3`
regresses it like the clicks of ImageNet-AB. Otherwise as configs/imagenet_ab_resnet50.py.
Command: `python run.py --config=configs/clickme_resnet50.py`,
once `tfds build tfds_builders/clickme --config=released --manual_dir=RAW` has built the data
(tfds_builders/clickme/README.md).
Hardware: as imagenet_ab_resnet50. Expected: not run.
"""

from configs import imagenet_ab_resnet50


def get_config():
  """ResNet-50 with the linear head."""
  c = imagenet_ab_resnet50.get_config()
  c.data.name = 'clickme/released'
  c.data.train_split = 'train'
  c.data.eval_splits = {'validation': 'validation'}
  c.data.click = 'peak'
  c.loss.map_loss = 'heatmap'
  c.loss.point_weight = 0.0
  return c
