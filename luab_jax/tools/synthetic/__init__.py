"""The embedded release: a synthetic data set in the exact files of the two real releases.

`python -m luab_jax.tools.synthetic --release=imagenet_ab --out=DIR` writes it. The rooms, in order:
`scene.py` (what is drawn and where), `behaviour.py` (what workers do there), `packing.py` (archives
with the same bytes on every run), `imagenet_release.py` and `coco_release.py` (the files).
"""
