"""Small anomaly maps of the images that a report shows: the strongest and weakest defects, the loudest normal ones."""

import numpy as np

from exdd_ray.methods.predictions import Predictions

EACH = 6
SIDE = 48  # pixels of a map's longer side


def small_maps(predictions: Predictions) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Small anomaly maps `map` [k x h x w] and the positions `row` [k] of their images, and the range of their colours.

    They are of the defects of the lowest and of the highest scores, and of the other images of the highest. The range
    is from the median patch of normal images to the 99.5 % quantile of all.
    """
    labels = np.array([row.label for row in predictions.rows])
    ascending = np.argsort(predictions.scores, kind="stable")
    defective, others = ascending[labels[ascending] == 1], ascending[labels[ascending] != 1]
    rows = np.unique(np.concatenate([defective[:EACH], defective[::-1][:EACH], others[::-1][:EACH]]))
    height, width = predictions.draw.input_size
    share = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * share)), max(1, round(width * share)))
    drawn = [predictions.draw(predictions.patch_maps[row], size) for row in rows]
    return {"row": rows.astype(np.int32), "map": np.stack(drawn).astype(np.float32)}, _colour_range(predictions)


def _colour_range(predictions: Predictions) -> tuple[float, float]:
    normal = np.array([row.label for row in predictions.rows]) == 0
    maps = np.asarray(predictions.patch_maps, dtype=np.float64)
    low, high = float(np.median(maps[normal] if normal.any() else maps)), float(np.quantile(maps, 0.995))
    return low, high if high > low else low + max(abs(low), 1.0) * 1e-6
