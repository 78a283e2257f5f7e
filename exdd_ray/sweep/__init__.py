"""Sweeps: points of a space of experiments, planned, run, compared and chosen from."""
