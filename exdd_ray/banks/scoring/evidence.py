"""How evidence of defects raises scores: standardised on held-out normal images, from a hinge on, up to a ceiling."""

from collections.abc import Sequence

import numpy as np

from exdd_ray.banks.scoring.config import Rise


def raised(evidence: np.ndarray, rise: Rise) -> np.ndarray:
    """What evidence, in standard deviations of normal images' maxima, adds to z_N: 0 up to the hinge.

    Steep at first, then towards a ceiling: a normal patch that looks like a defect stays below what is far from all
    that is normal, so that a defect of another kind is not overtaken.
    """
    bonus: np.ndarray = rise.ceiling * np.tanh(rise.slope * np.maximum(evidence - rise.hinge, 0) / rise.ceiling)
    return bonus


def bold_enough(
    defects: np.ndarray,
    covered: np.ndarray,
    known: np.ndarray,
    normal: np.ndarray,
    evidence: np.ndarray,
    rises: Sequence[Rise],
    tolerance: float,
) -> Rise | None:
    """The first of several rises that buries neither known nor unknown defects; None if none does.

    All evidence is of fits that left the images out. Beside normal images that it raises, the average precision of the
    training defects' patches must not fall by more than the tolerance, as they are raised themselves, nor where they
    are scored by the normal bank alone, as defects of which the evidence knows nothing would be.

    Args:
        defects: z_N of defective images [k x P].
        covered: bool [k x P] the patches that are defects.
        known: standardised evidence of the same patches [k x P].
        normal: z_N of held-out normal images [n x P].
        evidence: that of the same patches [n x P].
    """
    from sklearn.metrics import average_precision_score

    truth = np.concatenate([covered.ravel(), np.zeros(normal.size, dtype=bool)])

    def precision(of_defects: np.ndarray, of_normal: np.ndarray) -> float:
        return float(average_precision_score(truth, np.concatenate([of_defects.ravel(), of_normal.ravel()])))

    alone = precision(defects, normal)
    for rise in rises:
        beside = normal + raised(evidence, rise)
        worst = min(precision(defects + raised(known, rise), beside), precision(defects, beside))
        if worst >= (1 - tolerance) * alone:
            return rise
    return None
