"""Converts your own images into the files that the builders' `local` configs read.

`python -m luab_jax.tools.own_data --images=FOLDER --clicks=clicks.csv --out=RAW`; docs/own_data.md
shows every step.
"""
