"""Surfaces and defects drawn by formula: the demo's data and the bundled backbone's only training images."""
