"""Pretrained weights: their file formats, and their names in other projects."""
