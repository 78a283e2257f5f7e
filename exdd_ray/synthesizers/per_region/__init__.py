"""Per-region synthesis: a Perlin-shaped region blended with another source (DRAEM, MemSeg, DiffusionAD)."""
