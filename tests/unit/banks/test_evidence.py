"""How evidence raises scores, and the test that keeps defects of unknown kinds from being buried."""

import numpy as np
import pytest

from exdd_ray.banks.scoring.config import Rise, ScoringConfig
from exdd_ray.banks.scoring.distances import BankDistances
from exdd_ray.banks.scoring.evidence import Lift, bold_enough, lift
from exdd_ray.banks.scoring.fuse import Calibration, Evidence, score
from exdd_ray.errors import DataError


def test_nothing_up_to_a_level_then_steep_then_a_ceiling():
    found = Lift(level=1.0, scale=2.0, slope=2.0, ceiling=4.0).of(np.array([-5.0, 1.0, 1.002, 3.0, 99.0, -np.inf]))
    np.testing.assert_allclose(found, [0, 0, 0.002, 4 * np.tanh(0.5), 4, 0], rtol=1e-4)


def test_the_level_is_one_that_a_share_of_normal_images_exceeds():
    normal = np.random.default_rng(0).normal(size=(200, 30))
    found = lift(Rise(share=0.05), normal)
    assert (normal.max(axis=1) > found.level).sum() == 10
    assert found.scale == normal.max(axis=1).std()
    assert lift(Rise(), np.zeros((5, 4))) == Lift(level=0.0, scale=1.0, slope=2.0, ceiling=4.0)


def test_scores_are_standardised_distances_raised_by_evidence():
    near = np.arange(8.0).reshape(2, 4)
    added = np.stack([np.eye(2, 4) * 9, np.ones((2, 4))])
    given = Evidence(
        BankDistances(near, near.astype(int)), None, None, None, (2, 2), 3, Calibration((1, 2), None), added
    )
    config = ScoringConfig(fusion="evidence", neighbours=0)
    found = score(config, given)
    np.testing.assert_allclose(found.images, [(0 - 1) / 2 + 9, (5 - 1) / 2 + 9])
    np.testing.assert_allclose(found.maps, (near - 1) / 2 + 1)
    with pytest.raises(DataError, match="evidence of defects"):
        score(config, Evidence(given.negative, None, None, None, (2, 2), 3, given.calibration))


def test_the_boldest_rise_that_leaves_defects_without_evidence_where_they_are():
    rng = np.random.default_rng(0)
    covered = np.zeros((4, 50), dtype=bool)
    covered[:, :5] = True
    defects = rng.normal(size=(4, 50)) + 3 * covered
    normal = rng.normal(size=(20, 50))
    bold, timid = Rise(share=0.99, slope=9, ceiling=9), Rise(share=0.01)

    def found(evidence: np.ndarray, rises: tuple[Rise, ...], raised_where: np.ndarray = covered) -> Lift | None:
        return bold_enough(defects, covered, np.where(raised_where, 10, -10), normal, evidence, rises, 0.05)

    nothing, misled = np.full_like(normal, -10), rng.normal(size=normal.shape)
    assert found(nothing, (bold, timid)) == lift(bold, nothing)
    assert found(misled, (bold, timid)) == lift(timid, misled)
    assert found(misled, (bold,)) is None
    assert found(nothing, (bold, timid), raised_where=~covered) is None
