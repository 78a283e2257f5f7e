"""DualAnoDiff: the whole image and its anomalous part are painted together, so that the mask fits."""
