"""Running experiments: datasets, trials, results."""
