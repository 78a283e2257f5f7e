"""How evidence of defects raises scores: above a level that few held-out normal images reach, up to a ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exdd_ray.banks.scoring.config import Rise


@dataclass(frozen=True)
class Lift:
    """A rise, once the evidence of held-out normal images is known.

    Attributes:
        level: evidence up to which nothing is added.
        scale: standard deviation of the normal images' maxima.
    """

    level: float
    scale: float
    slope: float
    ceiling: float

    def of(self, evidence: np.ndarray) -> np.ndarray:
        """What evidence adds to z_N.

        Steep at first, then towards a ceiling: a normal patch that looks like a defect stays below what is far from all
        that is normal, so that a defect of another kind is not overtaken.
        """
        above = np.maximum(evidence - self.level, 0) / self.scale
        added: np.ndarray = self.ceiling * np.tanh(self.slope * above / self.ceiling)
        return added


def lift(rise: Rise, normal: np.ndarray) -> Lift:
    """With the level and the scale of held-out normal images' evidence [n x P].

    The scale is 1 where their maxima are all alike, as they are far from all landmarks.
    """
    maxima = normal.max(axis=1)
    return Lift(float(np.quantile(maxima, 1 - rise.share)), float(maxima.std()) or 1.0, rise.slope, rise.ceiling)


def bold_enough(
    defects: np.ndarray,
    covered: np.ndarray,
    known: np.ndarray,
    normal: np.ndarray,
    evidence: np.ndarray,
    rises: Sequence[Rise],
    tolerance: float,
) -> Lift | None:
    """The first of several rises that buries neither known nor unknown defects; None if none does.

    All evidence is of fits that left the images out. Beside normal images that it raises, the average precision of the
    training defects' patches must not fall by more than the tolerance, as they are raised themselves, nor where they
    are scored by the normal bank alone, as defects of which the evidence knows nothing would be.

    Args:
        defects: z_N of defective images [k x P].
        covered: bool [k x P] the patches that are defects.
        known: evidence of the same patches [k x P].
        normal: z_N of held-out normal images [n x P].
        evidence: that of the same patches [n x P].
    """
    from sklearn.metrics import average_precision_score

    truth = np.concatenate([covered.ravel(), np.zeros(normal.size, dtype=bool)])

    def precision(of_defects: np.ndarray, of_normal: np.ndarray) -> float:
        return float(average_precision_score(truth, np.concatenate([of_defects.ravel(), of_normal.ravel()])))

    alone = precision(defects, normal)
    for tried in (lift(rise, evidence) for rise in rises):
        beside = normal + tried.of(evidence)
        worst = min(precision(defects + tried.of(known), beside), precision(defects, beside))
        if worst >= (1 - tolerance) * alone:
            return tried
    return None
