"""What each test image adds to a metric: its derivative by the image's weight, from which its sampling noise follows.

The variance of a metric over draws of the test images is, to first order, the sum of the squares of these (the
infinitesimal jackknife; Efron, 1981). Of an AUROC they are the structural components of DeLong et al. (1988).
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Scored:
    """Test images with a detector's scores.

    Attributes:
        images: what tells the N images apart, the same for all detectors: what is in them, not their names.
        labels: [N] 0 or 1, both present; others where nothing is measured.
        scores: [N].
    """

    images: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray

    @cached_property
    def key(self) -> str:
        """Names the test: a metric of other images, or of other labels of the same ones, is another metric."""
        pairs = json.dumps(sorted(zip(self.images, self.labels.tolist(), strict=True)))
        return hashlib.blake2b(pairs.encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Influence:
    """Of test images on a metric of one detector.

    Attributes:
        normal, defective: image -> its influence, in ascending order of the images; the sum within a class is 0.
    """

    normal: dict[str, float]
    defective: dict[str, float]


def by_image(tested: Scored, values: np.ndarray) -> Influence:
    """Influences [N] by what is in the images: byte-identical ones, which are one draw, are one image."""
    found: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for image, label, value in sorted(zip(tested.images, tested.labels.tolist(), values.tolist(), strict=True)):
        found[label][image] = found[label].get(image, 0.0) + value
    return Influence(*found)


def auroc_influence(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each image [N] on the AUROC of scores [N] with labels [N] (0 or 1, both present)."""
    defective = labels == 1
    normal_scores, defect_scores = np.sort(scores[~defective]), np.sort(scores[defective])
    found = np.empty(len(scores))
    found[defective] = _share_below(normal_scores, scores[defective])
    found[~defective] = 1 - _share_below(defect_scores, scores[~defective])
    auroc = found[defective].mean()
    return (found - auroc) / np.where(defective, defective.sum(), (~defective).sum())


def _share_below(ascending: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of sorted scores the share below each of others, equal ones by half."""
    below, up_to = (np.searchsorted(ascending, scores, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(ascending)))


def ap_influence(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each image [N] on the average precision of scores [N] with labels [N] (0 or 1, both present).

    AP is the mean over defects of T / (T + F), the weights of defects and normal images that score as high or higher.
    """
    _, tie = np.unique(-scores, return_inverse=True)  # ties in descending order of score
    defects, normals = (np.bincount(tie, labels == label) for label in (1, 0))
    true, false = np.cumsum(defects), np.cumsum(normals)
    precision, count = true / (true + false), true[-1]
    ap = float(precision @ defects) / count
    # what an image's weight does to the precision at its own and at all lower scores
    gain, loss = (_from_here(defects * part / (true + false) ** 2) / count for part in (false, true))
    of_defects = (precision - ap) / count + gain
    found = np.where(labels == 1, of_defects[tie], -loss[tie])
    for label in (0, 1):  # weights of a class are shares of it: what all of them do together is nothing
        found[labels == label] -= found[labels == label].mean()
    return found


def _from_here(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(values[::-1])[::-1])
