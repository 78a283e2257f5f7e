"""The quality of synthetic images: how far they lie from real ones, and how varied they are."""
