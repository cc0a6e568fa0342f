"""The backgrounds_challenge data set: ImageNet-9 with its backgrounds exchanged or taken away."""

import pathlib
import sys

# `tfds build` imports this package by its path, from whatever folder the user stands in: only then
# is the repository it belongs to, with luab_jax, not importable yet.
_REPOSITORY = str(pathlib.Path(__file__).resolve().parents[2])
if _REPOSITORY not in sys.path:
  sys.path.insert(0, _REPOSITORY)
