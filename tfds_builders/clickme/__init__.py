"""The clickme data set: ImageNet images with heat maps of the parts that mattered to people."""
