"""Where on an image a defect may lie: everywhere, or on the part, by its grey value (MemSeg, 2022) or by a model."""

import numpy as np
from PIL import Image

from exdd_ray.errors import DataError
from exdd_ray.synthesizers.config import ForegroundConfig
from exdd_ray.synthesizers.segmentation import segment


def foreground(image: np.ndarray, config: ForegroundConfig) -> np.ndarray:
    """Foreground bool [H x W] of an image uint8 [H x W x 3].

    `threshold` takes pixels whose grey value (ITU-R 601 luma) is above the level; inverted, the others. `model` takes
    those that it finds.

    Raises:
        DataError: no pixel is left.
        UserError: see exdd_ray.synthesizers.segmentation.segment.
    """
    if config.kind == "all":
        return np.ones(image.shape[:2], dtype=bool)
    if config.model is not None:
        found = segment(image, config.model)
        if not found.any():
            raise DataError(f"the foreground is empty: {config.model} finds nothing (foreground.model)")
        return found
    above = np.asarray(Image.fromarray(image).convert("L")) > config.level
    ground = ~above if config.invert else above
    if not ground.any():
        rule = f"at most {config.level}" if config.invert else f"above {config.level}"
        raise DataError(f"the foreground is empty: no grey value of the image is {rule} (foreground.level)")
    return np.asarray(ground)
