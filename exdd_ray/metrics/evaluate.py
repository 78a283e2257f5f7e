"""Metrics of a detector's predictions: image scores at once, anomaly maps one after another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.metrics.bootstrap import Interval, bootstrap_intervals
from exdd_ray.metrics.config import STANDARD, EvaluationConfig
from exdd_ray.metrics.curves import Curve, Detection, curve_up_to
from exdd_ray.metrics.histogram import ScoreCounts, ScoreHistogram
from exdd_ray.metrics.metric import ImageScores, PixelScores
from exdd_ray.metrics.table import MEASURED, measure_images, measure_pixels


@dataclass(frozen=True)
class ImageMetrics:
    """What image scores are worth.

    Attributes:
        values: by key of the metric; None where one is undefined.
        intervals: 95 % bootstrap intervals by key, of some; none where no resample was asked for.
    """

    detection: Detection
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class PixelMetrics:
    """What anomaly maps are worth.

    Attributes:
        values: by key of the metric; None where one is undefined.
        pro: the per-region overlap against the false positive rate, up to the limit of the AUPRO.
    """

    detection: Detection
    values: Mapping[str, float | None]
    pro: Curve


def image_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    config: EvaluationConfig = STANDARD,
    normals: np.ndarray | None = None,
    *,
    resamples: int,
    seed: int,
) -> ImageMetrics:
    """Metrics of image scores [N] against labels [N]. Raises DataError for a test set of one class.

    Args:
        normals: scores [n] of held-out normal images, for thresholds.
    """
    if not np.all(np.isfinite(scores)):
        raise DataError(f"{int((~np.isfinite(scores)).sum())} image scores are not finite numbers")
    images = ImageScores(labels, scores, config, normals)
    values = measure_images(images)
    intervals = bootstrap_intervals(labels, scores, resamples, seed) if resamples else {}
    return ImageMetrics(images.detection, values, intervals)


def pixel_metrics(
    maps_and_masks: Iterable[tuple[np.ndarray, np.ndarray | None]],
    config: EvaluationConfig = STANDARD,
    threshold: float | None = None,
) -> PixelMetrics:
    """Metrics over a stream of (anomaly map float32 [H x W], mask bool [H x W]) pairs; sizes may differ between pairs.

    Defect regions are 8-connected.

    Args:
        maps_and_masks: None is the mask of a normal image. A mask without a defective pixel is one of a defect that is
            too small to be seen at this size: its pixels are normal ones, its image is no normal image.
        threshold: normal_threshold of held-out images.

    Raises DataError for a map of another size than its mask, or that is not finite, and
    where no pixel, or every pixel, is defective.
    """
    pixels = PixelScores(_count(maps_and_masks), config, threshold)
    return PixelMetrics(pixels.detection, measure_pixels(pixels), curve_up_to(pixels.overlap, config.fpr_limit))


def normal_threshold(maps: Iterable[np.ndarray]) -> float | None:
    """Mean + 3 standard deviations of all pixels of normal images' anomaly maps, one at a time; None without any."""
    count, mean, squares = 0, 0.0, 0.0
    for one in maps:  # parts are merged as by Chan et al. (1979), which no large mean makes inexact
        apart = float(one.mean(dtype=np.float64)) - mean
        merged = count + one.size
        squares += float(one.var(dtype=np.float64)) * one.size + apart**2 * count * one.size / merged
        mean, count = mean + apart * one.size / merged, merged
    return mean + 3 * (squares / count) ** 0.5 if count else None


def all_values(image: ImageMetrics | None, pixel: PixelMetrics | None) -> dict[str, float | None]:
    """Every metric by key, in the table's order; None where one is undefined, or nothing could be measured."""
    known = {**(image.values if image else {}), **(pixel.values if pixel else {})}
    return {metric.key: known.get(metric.key) for metric in MEASURED}


def _count(maps_and_masks: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> ScoreCounts:
    histogram = ScoreHistogram()
    for anomaly_map, given in maps_and_masks:
        mask = np.zeros(anomaly_map.shape, dtype=bool) if given is None else given
        if anomaly_map.shape != mask.shape:
            raise DataError(f"an anomaly map of {anomaly_map.shape} meets a mask of {mask.shape}")
        if not np.all(np.isfinite(anomaly_map)):
            raise DataError("an anomaly map has values that are not finite numbers")
        histogram.add(anomaly_map.reshape(-1), mask.reshape(-1), _overlap_weights(mask), normal=given is None)
    return histogram.counts()


def _overlap_weights(mask: np.ndarray) -> np.ndarray:
    """1 / size of the connected region of every defective pixel, in row-major order [number of defective pixels]."""
    if not mask.any():
        return np.zeros(0)
    from scipy.ndimage import label

    regions, _ = label(mask, structure=np.ones((3, 3)))
    members = regions[mask]
    weights: np.ndarray = 1.0 / np.bincount(members)[members]
    return weights
