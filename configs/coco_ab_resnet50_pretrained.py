"""ResNet-50 on COCO-AB, fine-tuned from ImageNet weights as is usual for COCO.

Paper: none; as configs/coco_ab_resnet50.py, at a tenth of its learning rate for 20 epochs (ours).
The weights are the model.safetensors of timm/resnet50.a1_in1k on the Hugging Face Hub, or of
timm/resnet50.tv_in1k (torchvision's weights; its own resnet50-0676ba61.pth works as well).
Command: `python run.py --config=configs/coco_ab_resnet50_pretrained.py --config.init_from=FILE`,
once `tfds build tfds_builders/coco_ab --config=2014` has built the data (docs/data.md).
Hardware: one accelerator of 40 GB, or 4 of 16 GB. Expected: not run.
"""

from configs import coco_ab_resnet50


def get_config():
  """ResNet-50 with the linear head."""
  c = coco_ab_resnet50.get_config()
  c.num_epochs = 20.0
  c.optimizer.learning_rate = 0.005
  c.optimizer.warmup_epochs = 1.0
  return c
