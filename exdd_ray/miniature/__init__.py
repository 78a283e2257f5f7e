"""A miniature inpainting model of Stable Diffusion's kind, trained on drawings: `python -m exdd_ray.miniature`."""
