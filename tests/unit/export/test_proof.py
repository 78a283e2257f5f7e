"""An export that does not score as it was evaluated is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from exdd_ray.errors import UserError
from exdd_ray.export.proof import prove
from exdd_ray.export.write import apart_from_scores
from exdd_ray.line.detector import Detector
from exdd_ray.line.folder import Manifest, Threshold
from exdd_ray.line.geometry import Geometry

GEOMETRY = Geometry((4, 4), "stretch", None, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LEVELS = (10, 100, 200)


@dataclass
class Brightness(nn.Module):
    """Scores by the mean, with a mistake."""

    wrong: float

    def __post_init__(self):
        super().__init__()

    def forward(self, images):
        """Scores and maps."""
        return images.mean(dim=(1, 2, 3)) * (1 + self.wrong), torch.zeros(len(images), 4, 4)


def detector(wrong, threshold):
    given = Manifest("made", GEOMETRY, None, (0.0, 1.0), Threshold(threshold, "so"), {}, {}, {})
    return Detector(given, Brightness(wrong))


IMAGES = [(np.full((4, 4, 3), level, np.uint8), level / 255) for level in LEVELS]


def test_small_differences_pass_and_are_told():
    found = prove(detector(1e-6, 0.3), IMAGES)
    assert found["images"] == 3
    assert found["flips"] == 0
    assert found["largest_difference"] == pytest.approx(1e-6, rel=0.2)


def test_scores_that_differ_are_refused():
    with pytest.raises(UserError, match=r"differences up to 1.0e-03"):
        prove(detector(1e-3, 0.3), IMAGES)


def test_a_verdict_that_flips_is_refused_however_small_the_difference():
    with pytest.raises(UserError, match="1 of 3 verdicts differ"):
        prove(detector(-1e-6, 100 / 255), IMAGES)


def test_a_threshold_that_is_a_score_is_moved_below_it():
    scores = np.array([0.1, 0.5, 0.9])
    assert apart_from_scores(0.5, scores) == pytest.approx(0.3)
    assert apart_from_scores(0.6, scores) == 0.6
    assert apart_from_scores(0.1, scores) == 0.1
