"""AUPIMO: the recall of each image's defect where next to nothing of normal images is called defective."""

import numpy as np

from exdd_ray.metrics.histogram import ScoreCounts

BOUNDS = (1e-5, 1e-4)


def aupimo(counts: ScoreCounts, bounds: tuple[float, float] = BOUNDS) -> float | None:
    """Area under the per-image overlap over the logarithm of the false positive rate, between bounds, averaged.

    With F(t) the mean over normal images of the share of their pixels at or above t, and T_i(t) the share of image i's
    defective pixels at or above t, the area of an image is (Bertoldo et al., 2024, arXiv:2401.01984)

        1 / log(U / L) * integral from L to U of T_i(F^-1(z)) d log z

    F^-1(z) is the lowest threshold whose F is at most z. As the mean over images may be taken under the integral, sums
    over pixels that are weighted by their image are enough, and it is exact but for the histogram's bins. With fewer
    normal pixels than 1 / L the curve begins at the threshold that no normal pixel reaches. An image whose
    defect is too small for a pixel counts as neither. None without a normal image, or without a defective pixel.
    """
    normal, defective = counts.alarms.sum(), counts.recall.sum()
    if not normal or not defective:
        return None
    low, high = bounds
    false = np.concatenate([[0.0], np.cumsum(counts.alarms[::-1]) / normal])  # of falling thresholds
    recall = np.concatenate([[0.0], np.cumsum(counts.recall[::-1]) / defective])
    edges = np.log(np.append(false, np.inf).clip(low, high))
    area = float(recall @ np.diff(edges) / (np.log(high) - np.log(low)))
    return min(area, 1.0)  # the sum of logarithms rounds
