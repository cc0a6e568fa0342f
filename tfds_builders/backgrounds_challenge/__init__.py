"""The backgrounds_challenge data set: ImageNet-9 with its backgrounds exchanged or removed."""
