"""TFDS builders that package ImageNet-AB and COCO-AB."""
