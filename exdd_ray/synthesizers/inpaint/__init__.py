"""Inpainting by latent diffusion: a prompt says what, a mask says where (DIAG)."""
