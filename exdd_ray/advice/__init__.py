"""What helps on a folder of one's own images, found out within a time."""
