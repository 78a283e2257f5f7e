"""PaDiM: a Gaussian of normal patch vectors at every position of the image (Defard et al., 2021)."""
