"""Experiment configs; `default.py` lists every key."""
