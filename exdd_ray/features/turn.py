"""Images turned by some degrees: few reference images show few of the orientations that a part may have."""

import numpy as np


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """An image turned counter-clockwise around its middle, on a canvas of its own size: uint8 [H x W x 3].

    Bilinear; beyond its edges the image is mirrored, the outermost pixels not repeated. Source: AnomalyDINO's code
    (OpenCV's warpAffine, with the border that is its default), which turns around the pixel after the middle.
    """
    from scipy.ndimage import rotate

    found = rotate(image.astype(np.float32), degrees, reshape=False, order=1, mode="mirror")
    return np.asarray(np.rint(found).astype(np.uint8))
