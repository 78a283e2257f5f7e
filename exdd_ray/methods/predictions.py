"""What a detector says of images: scores and maps."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import CatalogRow


@dataclass(frozen=True)
class Predictions:
    """Scores of n images.

    Attributes:
        rows: the images.
        scores: [n] image scores, higher is more anomalous.
        patch_maps: [n x P].
        draw: turns a patch map into an anomaly map.
    """

    rows: tuple[CatalogRow, ...]
    scores: np.ndarray
    patch_maps: np.ndarray
    draw: MapMaker
