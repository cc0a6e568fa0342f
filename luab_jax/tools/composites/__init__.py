"""Composites of Caltech-101's photographs in the files of ImageNet-AB (docs/real_photographs.md).

The photographs and the outlines of their objects are real; clicks are simulated from the outlines.
"""
