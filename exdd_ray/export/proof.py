"""An export proves itself: what was written scores images as they were evaluated, or is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from exdd_ray.errors import UserError
from exdd_ray.line.detector import Detector

TOLERANCE = 1e-4  # relative difference of scores


def prove(detector: Detector, images: Sequence[tuple[np.ndarray, float]]) -> dict[str, Any]:
    """How far a detector's scores are from those that were evaluated, and how many verdicts differ.

    Differences are relative to the score, or to the deviation of all scores where that is larger: standardised scores
    may be near 0.

    Args:
        images: RGB pixels uint8 [H x W x 3], each with its score.

    Raises UserError where a score differs by more than 1e-4, or a verdict does.
    """
    found = list(detector.predict(pixels for pixels, _ in images))
    wanted = np.array([score for _, score in images])
    scores = np.array([one.score for one in found])
    apart = np.abs(scores - wanted) / np.maximum(np.abs(wanted), wanted.std() or 1.0)
    threshold = detector.manifest.threshold
    flips = 0 if threshold is None else int(((scores >= threshold.value) != (wanted >= threshold.value)).sum())
    if not apart.max() <= TOLERANCE or flips:
        raise UserError(
            f"the exported graph does not score as the detector did: differences up to {apart.max():.1e} (at most "
            f"{TOLERANCE:.0e}), {flips} of {len(found)} verdicts differ; nothing was written"
        )
    return {"images": len(found), "largest_difference": float(apart.max()), "flips": flips}
