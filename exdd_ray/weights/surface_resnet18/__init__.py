"""Trains the bundled backbone on images drawn by formula: `python -m exdd_ray.weights.surface_resnet18`."""
