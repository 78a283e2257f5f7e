"""Weights that ship, each beside the recipe that made it."""
