"""The coco_ab data set: COCO 2014 images with COCO-AB annotation byproducts."""
