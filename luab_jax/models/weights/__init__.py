"""Pretrained weights: their file formats and the names of other projects."""
