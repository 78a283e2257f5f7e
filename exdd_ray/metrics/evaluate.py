"""Metrics of a detector's predictions: image scores at once, anomaly maps one after another."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.metrics.bootstrap import Interval, bootstrap_intervals
from exdd_ray.metrics.curves import Curve, Detection, aupro, detection, pixel_detection
from exdd_ray.metrics.histogram import ScoreHistogram


@dataclass(frozen=True)
class ImageMetrics:
    """Image-level detection with 95 % bootstrap intervals; the intervals are None where no resample was asked for."""

    detection: Detection
    auroc_interval: Interval | None
    ap_interval: Interval | None


@dataclass(frozen=True)
class PixelMetrics:
    """Pixel-level detection and the area under the per-region overlap."""

    detection: Detection
    aupro: float
    pro: Curve


def image_metrics(labels: np.ndarray, scores: np.ndarray, *, resamples: int, seed: int) -> ImageMetrics:
    """Metrics of image scores [N] against labels [N]. Raises DataError for a test set of one class."""
    if not np.all(np.isfinite(scores)):
        raise DataError(f"{int((~np.isfinite(scores)).sum())} image scores are not finite numbers")
    found = detection(labels, scores)
    if not resamples:
        return ImageMetrics(found, None, None)
    return ImageMetrics(found, *bootstrap_intervals(labels, scores, resamples, seed))


def pixel_metrics(maps_and_masks: Iterable[tuple[np.ndarray, np.ndarray]], *, fpr_limit: float) -> PixelMetrics:
    """Metrics over a stream of (anomaly map float32 [H x W], mask bool [H x W]) pairs; sizes may differ between pairs.

    Defect regions are 8-connected. Raises DataError for a map of another size than its mask, or that is not finite, and
    where no pixel, or every pixel, is defective.
    """
    histogram = ScoreHistogram()
    for anomaly_map, mask in maps_and_masks:
        if anomaly_map.shape != mask.shape:
            raise DataError(f"an anomaly map of {anomaly_map.shape} meets a mask of {mask.shape}")
        if not np.all(np.isfinite(anomaly_map)):
            raise DataError("an anomaly map has values that are not finite numbers")
        histogram.add(anomaly_map.reshape(-1), mask.reshape(-1), _overlap_weights(mask))
    counts = histogram.counts()
    found = pixel_detection(counts)
    return PixelMetrics(found, *aupro(counts, fpr_limit))


def _overlap_weights(mask: np.ndarray) -> np.ndarray:
    """1 / size of the connected region of every defective pixel, in row-major order [number of defective pixels]."""
    if not mask.any():
        return np.zeros(0)
    from scipy.ndimage import label

    regions, _ = label(mask, structure=np.ones((3, 3)))
    members = regions[mask]
    weights: np.ndarray = 1.0 / np.bincount(members)[members]
    return weights
