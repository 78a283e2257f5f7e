"""CutPaste: a piece of the image pasted elsewhere."""
