"""Annotation tools that record byproducts: `python -m luab_jax.tools.annotate`."""
