"""From distances to image scores and anomaly maps: arithmetic only, no search."""
