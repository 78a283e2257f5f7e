"""Synthesizers: they make defective images with exact masks from normal ones."""
