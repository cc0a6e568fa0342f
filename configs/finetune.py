"""Fine-tuning pretrained weights on your own data (docs/own_data.md).

Paper: none; as configs/own_data.py, with AdamW, layer-wise learning rate decay from the head to the
input (Bao et al. 2022, arXiv:2106.08254; 0.75 is usual for small ViTs), stochastic depth and ten
times the learning rate for the new head (ours). Set --config.model.name to the model of the weights
and, for augreg's ViTs, --config.model.normalisation=half. For a linear probe, which trains only the
head, add --config.model.freeze_backbone=True --config.optimizer.learning_rate=1e-3.
Command: `python run.py --config=configs/finetune.py --config.init_from=FILE
--config.data.data_dir=data/own/built`, where FILE is, for example, the model.safetensors of
timm/resnet50.a1_in1k; for several classes per image add --config.data.name=coco_ab/local.
Hardware: one GPU. Expected: depends on your data; not run with published weights.
"""

from configs import own_data


def get_config():
  """ResNet-50 at 224 px with the spatial head."""
  c = own_data.get_config()

  c.model.name = 'resnet50'
  c.model.drop_path = 0.05

  c.optimizer.name = 'adamw'
  c.optimizer.learning_rate = 2e-4
  c.optimizer.head_rate = 10.0
  c.optimizer.layer_decay = 0.75
  c.optimizer.weight_decay = 0.05
  return c
