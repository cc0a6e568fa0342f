"""Evaluation: metrics, localisation, robustness and prediction."""
