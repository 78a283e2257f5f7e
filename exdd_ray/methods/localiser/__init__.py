"""The localiser of AnomalyDiffusion and DualAnoDiff: a U-Net trained on images with masks, real or generated."""
