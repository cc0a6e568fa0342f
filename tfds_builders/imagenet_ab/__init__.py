"""The imagenet_ab data set: ImageNet images with the byproducts of ImageNet-AB."""
