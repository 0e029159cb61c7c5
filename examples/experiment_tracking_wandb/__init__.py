"""Experiment-Tracking mit W&B, ohne Konto und ohne Netz."""
