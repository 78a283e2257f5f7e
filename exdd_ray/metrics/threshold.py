"""Thresholds on image scores at the largest F1, by the two published rules, and what they give on other images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.metrics.curves import detection

ThresholdRule = Literal["score", "midpoint"]


@dataclass(frozen=True)
class OperatingPoint:
    """What calling the scores above a threshold defective gives.

    Attributes:
        precision: 0 where nothing is called defective.
    """

    threshold: float
    precision: float
    recall: float


def f1_max_point(labels: np.ndarray, scores: np.ndarray, rule: ThresholdRule) -> OperatingPoint:
    """The threshold of the largest F1 over scores [N] with labels [N], with precision and recall there.

    `score` takes the lowest score that is called defective; `midpoint` (DIAG's code) the middle between it and the next
    lower one. Both tell these N images apart alike, and differ on others; where that score is the lowest of all, both
    take it. Raises DataError where only one class is present.
    """
    found = detection(labels, scores)
    threshold = found.threshold
    below = scores[scores < threshold]
    if rule == "midpoint" and len(below):
        threshold = (threshold + float(below.max())) / 2
    return OperatingPoint(threshold, found.precision, found.recall)


def threshold_at_rate(normals: np.ndarray, rate: float) -> float | None:
    """The lowest score above which another normal image lies with at most this probability: above is called defective.

    Of n + 1 exchangeable scores each is as likely to be the new one: with k of the n normal scores above the threshold
    it lies above with probability (k + 1) / (n + 1) at most (Vovk et al., 2005: conformal prediction). Of ties that
    would be too many none is above. None where n are too few for any threshold: below 1 / rate - 1.
    """
    allowed = int(rate * (len(normals) + 1) + 1e-9) - 1  # the product may lie just below a whole number
    return None if allowed < 0 else float(np.sort(normals)[len(normals) - 1 - allowed])


def point_at(labels: np.ndarray, scores: np.ndarray, threshold: float) -> OperatingPoint:
    """Precision and recall of calling scores [N] >= threshold defective. Raises DataError without a defect."""
    defective, called = labels == 1, scores >= threshold
    if not defective.any():
        raise DataError("recall is undefined: no image is defective")
    hits = int((defective & called).sum())
    return OperatingPoint(threshold, hits / max(int(called.sum()), 1), hits / int(defective.sum()))
