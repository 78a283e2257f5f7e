import numpy as np
import pytest
from scipy import stats

from exdd_ray.errors import DataError
from exdd_ray.metrics.seeds import mean_by_seed, mean_of


def test_interval_is_students():
    values = np.array([0.91, 0.94, 0.92])
    mean = mean_of(values)
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert mean.value == pytest.approx(values.mean())
    assert (mean.value - mean.half, mean.value + mean.half) == pytest.approx((low, high))


def test_intervals_hold_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(3, 1, size=(4000, 4))
    held = [abs(m.value - 3) <= m.half for m in map(mean_of, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_one_run_has_no_interval():
    assert mean_of(np.array([0.5])).half is None
    with pytest.raises(DataError, match="no run"):
        mean_of(np.array([]))


def test_places_are_averaged_within_a_seed():
    found = mean_by_seed({(1, "a"): 0.2, (1, "b"): 0.4, (0, "a"): 0.5})
    assert found == {1: pytest.approx(0.3), 0: 0.5}
