"""Real defects, cut out by their masks and blended into normal images."""
