"""DiffusionAD (Zhang et al., "DiffusionAD: norm-guided one-step denoising diffusion for anomaly detection", 2023)."""
