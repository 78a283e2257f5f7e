"""Bootstrap intervals of image-level AUROC and AP, all resamples at once."""

from dataclasses import dataclass

import numpy as np

RESAMPLED = ("image_auroc", "image_ap")
_BLOCK = 250


@dataclass(frozen=True)
class Interval:
    """A central 95 % interval."""

    low: float
    high: float


def bootstrap_intervals(labels: np.ndarray, scores: np.ndarray, resamples: int, seed: int) -> dict[str, Interval]:
    """95 % percentile intervals of the metrics RESAMPLED over resampled images, each class resampled for itself.

    Args:
        labels: [N] 0 or 1, both present.
        scores: [N].
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    drawn = [
        _auroc_ap(_resample(labels, min(_BLOCK, resamples - done), rng), labels, last_of_tie)
        for done in range(0, resamples, _BLOCK)
    ]
    auroc, ap = (np.concatenate(values) for values in zip(*drawn, strict=True))
    return dict(zip(RESAMPLED, (_interval(auroc), _interval(ap)), strict=True))


def _resample(labels: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn [resamples x N]."""
    counts = np.zeros((resamples, len(labels)))
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return counts


def _auroc_ap(counts: np.ndarray, labels: np.ndarray, last_of_tie: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and AP [resamples] from cumulative counts at the ends of ties, scores descending."""
    true = np.cumsum(counts * (labels == 1), axis=1)[:, last_of_tie]
    false = np.cumsum(counts * (labels == 0), axis=1)[:, last_of_tie]
    tpr, fpr = true / true[:, -1:], false / false[:, -1:]
    start = np.zeros((len(counts), 1))
    auroc = np.trapezoid(np.hstack([start, tpr]), np.hstack([start, fpr]), axis=1)
    precision = true / np.maximum(true + false, 1)
    ap = np.sum(precision * np.diff(tpr, axis=1, prepend=0), axis=1)
    return auroc, ap


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
