"""A mixture: samples of several synthesizers, by shares."""
