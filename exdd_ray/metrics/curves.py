"""AUROC, AP, F1-max and AUPRO of weighted scores, with their curves; computed by scikit-learn."""

from dataclasses import dataclass

import numpy as np

from exdd_ray.errors import DataError
from exdd_ray.metrics.histogram import ScoreCounts

_CURVE_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """Points of a curve, thinned for drawing; x ascends."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Rates:
    """What falling thresholds give.

    Attributes:
        false: false positive rates [P], ascending from 0 to 1.
        true: the rates [P] that come with them.
    """

    false: np.ndarray
    true: np.ndarray


@dataclass(frozen=True)
class Detection:
    """How well scores tell defective from normal.

    Attributes:
        auroc: area under the ROC curve.
        ap: average precision.
        f1: the largest F1, reached by calling scores >= threshold defective.
        precision, recall: at that threshold.
        roc, pr: the curves (false against true positive rate; recall against precision).
    """

    auroc: float
    ap: float
    f1: float
    threshold: float
    precision: float
    recall: float
    roc: Curve
    pr: Curve


def detection(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Detection:
    """Metrics of scores [N] against labels [N] (0 or 1), each counted `weights` [N] times.

    Raises DataError where only one class is present: AUROC and AP are undefined then.
    """
    from sklearn.metrics import auc, precision_recall_curve, roc_curve

    _require_both(labels, weights)
    fpr, tpr, _ = roc_curve(labels, scores, sample_weight=weights)
    precision, recall, thresholds = precision_recall_curve(labels, scores, sample_weight=weights)
    f1 = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], np.finfo(float).tiny)
    best = int(np.argmax(f1))
    return Detection(
        auroc=float(auc(fpr, tpr)),
        ap=float(max(0.0, -np.sum(np.diff(recall) * precision[:-1]))),  # as scikit-learn, which would sort once more
        f1=float(f1[best]),
        threshold=float(thresholds[best]),
        precision=float(precision[best]),
        recall=float(recall[best]),
        roc=_thinned(fpr, tpr),
        pr=_thinned(recall[::-1], precision[::-1]),
    )


def pixel_detection(counts: ScoreCounts) -> Detection:
    """Metrics over all counted pixels."""
    return detection(*_both_classes(counts, counts.positives))


def overlap_rates(counts: ScoreCounts) -> Rates:
    """The per-region overlap by false positive rate.

    The overlap at a threshold is the mean over connected defect regions of the share of the region at or above it
    (Bergmann et al., 2021). Raises DataError without a defective or a normal pixel.
    """
    from sklearn.metrics import roc_curve

    labels, scores, weights = _both_classes(counts, counts.overlap)
    _require_both(labels, weights)
    false, overlap, _ = roc_curve(labels, scores, sample_weight=weights)
    return Rates(false, overlap)


def curve_up_to(rates: Rates, limit: float) -> Curve:
    """The true by the false positive rates up to a limit, which is between 0 and 1."""
    return _thinned(*_up_to(rates, limit))


def area_up_to(rates: Rates, limit: float) -> float:
    """Area under the true by the false positive rates up to a limit, divided by it: the AUPRO of overlap_rates."""
    from sklearn.metrics import auc

    return float(auc(*_up_to(rates, limit)) / limit)


def _up_to(rates: Rates, limit: float) -> tuple[np.ndarray, np.ndarray]:
    inside = rates.false < limit
    x = np.append(rates.false[inside], limit)
    return x, np.append(rates.true[inside], np.interp(limit, rates.false, rates.true))


def f1_above(counts: ScoreCounts, threshold: float) -> float:
    """F1 over all counted pixels where those above a threshold are called defective; 0 where there is no hit."""
    called = counts.scores > threshold
    hits, alarms, defective = counts.positives[called].sum(), counts.negatives[called].sum(), counts.positives.sum()
    return float(2 * hits / max(hits + alarms + defective, 1))


def _both_classes(counts: ScoreCounts, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], len(counts.scores))
    scores = np.tile(counts.scores, 2)
    weights = np.concatenate([counts.negatives, positives])
    return labels[weights > 0], scores[weights > 0], weights[weights > 0]


def _require_both(labels: np.ndarray, weights: np.ndarray | None) -> None:
    present = labels if weights is None else labels[weights > 0]
    for label, name in ((0, "normal"), (1, "defective")):
        if not np.any(present == label):
            raise DataError(f"AUROC and AP are undefined: the test set has nothing {name}")


def _thinned(x: np.ndarray, y: np.ndarray) -> Curve:
    if len(x) <= _CURVE_POINTS:
        return Curve(x, y)
    length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    keep = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _CURVE_POINTS)).clip(0, len(x) - 1))
    return Curve(x[keep], y[keep])
