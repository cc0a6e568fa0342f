"""ResNet-50 on COCO 2017 with Localized Narratives: 80 sigmoid outputs and a point for each class.

Paper: none; ours. The point of a class is the mouse position while an annotator first named it
(data.icons=named); `--config.data.byproduct=trace` regresses the mouse path of the whole
description instead. Otherwise as configs/coco_ab_resnet50.py. COCO's validation images also have
narratives, so the point error is measured on them.
Command: `python run.py --config=configs/narratives_resnet50.py`,
once `tfds build tfds_builders/coco_ab --config=narratives` has built the data
(tfds_builders/coco_ab/README.md).
Hardware: one accelerator of 40 GB, or 4 of 16 GB. Expected: not run.
"""

from configs import coco_ab_resnet50


def get_config():
  """ResNet-50 with the linear head."""
  c = coco_ab_resnet50.get_config()
  c.data.name = 'coco_ab/narratives'
  c.data.train_split = 'train'
  c.data.eval_splits = {'validation': 'validation'}
  c.data.icons = 'named'
  return c
