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
    normal: np.ndarray,
    evidence: np.ndarray,
    rises: Sequence[Rise],
    tolerance: float,
) -> Rise | None:
    """The first of several rises that does not bury defects of which the evidence knows nothing; None if all do.

    The training defects stand for them, scored by the normal bank alone. Beside normal images whose scores held-out
    evidence raises, the average precision of their patches must not fall by more than the tolerance.

    Args:
        defects: z_N of defective images [k x P].
        covered: bool [k x P] the patches that are defects.
        normal: z_N of held-out normal images [n x P].
        evidence: of the same patches [n x P], learnt without their images, standardised.
    """
    from sklearn.metrics import average_precision_score

    truth = np.concatenate([covered.ravel(), np.zeros(normal.size, dtype=bool)])
    alone = average_precision_score(truth, np.concatenate([defects.ravel(), normal.ravel()]))
    for rise in rises:
        beside = normal + raised(evidence, rise)
        kept = average_precision_score(truth, np.concatenate([defects.ravel(), beside.ravel()]))
        if kept >= (1 - tolerance) * alone:
            return rise
    return None
