"""What runs leave with experiment trackers."""
