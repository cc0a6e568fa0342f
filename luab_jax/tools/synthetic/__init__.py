"""The embedded release: a synthetic data set in the exact formats of the two real releases.

`python -m luab_jax.tools.synthetic --release=imagenet_ab --out=DIR` writes it. `scene` draws the
images, `behaviour` and `icons` simulate the workers, `imagenet_release` and `coco_release` write
the files.
"""
