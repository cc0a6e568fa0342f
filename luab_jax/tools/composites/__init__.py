"""Composites of Caltech-101's photographs in ImageNet-AB's format (docs/real_photographs.md).

The photographs and the outlines of their objects are real; clicks are simulated from the outlines.
"""
