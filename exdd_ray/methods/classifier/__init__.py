"""The image classifier (DIAG, In&Out): trained on image labels."""
