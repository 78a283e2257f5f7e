"""PatchCore and ExDD: memory banks of normal and of defective patches."""
