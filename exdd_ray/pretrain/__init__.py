"""Trains the bundled backbone, from nothing but images drawn by formula: `python -m exdd_ray.pretrain`."""
