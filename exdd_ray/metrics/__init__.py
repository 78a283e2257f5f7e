"""Image and pixel metrics over any number of pixels in bounded memory."""
