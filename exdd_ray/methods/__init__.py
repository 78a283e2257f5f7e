"""Detectors: fitted on a catalog, they score images and draw anomaly maps."""
