"""The coco_ab data set: COCO images with byproducts of COCO-AB or Localized Narratives."""
