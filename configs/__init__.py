"""Experiments; `default.py` holds every key."""
