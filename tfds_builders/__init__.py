"""TFDS builders for ImageNet-AB, COCO-AB, ClickMe and the Backgrounds Challenge."""
