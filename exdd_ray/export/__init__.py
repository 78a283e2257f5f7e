"""Detectors that leave the lab: as one graph that needs neither the store nor Ray, proved to score as it did."""
