"""Training: one loop for every network, whose runs can be killed at any time and go on to the same bits."""
