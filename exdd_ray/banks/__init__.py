"""Algorithms on patch vectors: coresets, exact search, and scores from distances."""
