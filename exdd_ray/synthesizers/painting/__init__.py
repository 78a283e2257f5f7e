"""What synthesizers have in common that paint with a pretrained diffusion model: the model, where and how to paint."""
