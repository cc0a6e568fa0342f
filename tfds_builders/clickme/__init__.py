"""The clickme data set: images with heat maps of where people clicked what mattered to them."""
