import numpy as np
import pytest
from scipy import stats

from exdd_ray.errors import DataError
from exdd_ray.metrics.seeds import difference, mean_of


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


def test_one_run_has_no_interval_and_proves_nothing():
    assert mean_of(np.array([0.5])).half is None
    found = difference({(0, "tile"): 0.6}, {(0, "tile"): 0.5})
    assert found.mean.value == pytest.approx(0.1)
    assert (found.mean.half, found.p) == (None, None)
    assert found.within_noise


def test_a_difference_is_paired_by_run():
    baseline = {seed: 0.5 + 0.1 * seed for seed in range(4)}
    better = {seed: value + 0.01 + 0.001 * (seed % 2) for seed, value in reversed(baseline.items())}
    found = difference(better, baseline)
    assert found.mean.value == pytest.approx(0.0105)
    assert not found.within_noise
    expected = stats.ttest_rel([better[s] for s in range(4)], [baseline[s] for s in range(4)])
    assert found.p == pytest.approx(expected.pvalue)
    unpaired = stats.ttest_ind(list(better.values()), list(baseline.values()))
    assert unpaired.pvalue > 0.5


def test_runs_that_the_baseline_lacks_are_left_out():
    found = difference({1: 0.7, 2: 0.8, 3: 0.1}, {1: 0.6, 2: 0.6})
    assert (found.mean.runs, found.mean.value) == (2, pytest.approx(0.15))
    with pytest.raises(DataError, match="nothing to compare"):
        difference({1: 0.5}, {2: 0.5})
    with pytest.raises(DataError, match="no run"):
        mean_of(np.array([]))


@pytest.mark.parametrize(("shift", "p", "noise"), [(0.0, 1.0, True), (0.25, 0.5, True)])
def test_equal_differences(shift, p, noise):
    found = difference({1: 0.5 + shift, 2: 0.25 + shift}, {1: 0.5, 2: 0.25})
    assert found.p == p
    assert found.within_noise is noise
