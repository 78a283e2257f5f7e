"""Trains the bundled inpainting model on drawn surfaces: `python -m exdd_ray.weights.miniature`."""
