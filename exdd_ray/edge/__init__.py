"""Where the core meets Ray: each module moves one core function to where the hardware is, and nothing else."""
