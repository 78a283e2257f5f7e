"""How evidence raises scores, and the test that keeps defects of unknown kinds from being buried."""

import numpy as np
import pytest

from exdd_ray.banks.scoring.config import Rise, ScoringConfig
from exdd_ray.banks.scoring.distances import BankDistances
from exdd_ray.banks.scoring.evidence import bold_enough, raised
from exdd_ray.banks.scoring.fuse import Calibration, Evidence, score
from exdd_ray.errors import DataError

RISE = Rise(hinge=1.0, slope=2.0, ceiling=4.0)


def test_nothing_up_to_the_hinge_then_steep_then_a_ceiling():
    found = raised(np.array([-5.0, 1.0, 1.001, 2.0, 99.0]), RISE)
    np.testing.assert_allclose(found, [0, 0, 0.002, 4 * np.tanh(0.5), 4], rtol=1e-4)


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
    bold, timid = Rise(hinge=-9.0, ceiling=9.0, slope=9.0), Rise(hinge=3.0)

    def found(evidence: np.ndarray, raised_where: np.ndarray = covered) -> Rise | None:
        of_defects = np.where(raised_where, 10, -10)
        return bold_enough(defects, covered, of_defects, normal, evidence, (bold, timid), 0.05)

    nothing = np.full_like(normal, -10)
    assert found(nothing) == bold
    assert found(np.where(rng.uniform(size=normal.shape) < 0.3, 0, -10.0)) == timid
    assert found(np.full_like(normal, 10)) is None
    assert found(nothing, raised_where=~covered) is None
