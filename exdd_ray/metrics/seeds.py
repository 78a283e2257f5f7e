"""What several seeds say of a metric: means with intervals, and differences from a baseline, paired seed by seed."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import stats

from exdd_ray.errors import DataError

CONFIDENCE = 0.95
_EQUAL = 1e-12  # apart by no more than rounding
Run = TypeVar("Run", bound=Hashable)


@dataclass(frozen=True)
class Mean:
    """Mean over runs with its 95 % interval by Student's t, which is unknown (None) with a single run."""

    value: float
    half: float | None
    runs: int


@dataclass(frozen=True)
class Difference:
    """Mean difference from a baseline over the runs that both have.

    Attributes:
        p: of the paired t-test that it is zero; None with a single pair.
    """

    mean: Mean
    p: float | None

    @property
    def within_noise(self) -> bool:
        """Whether the test does not tell the difference from zero at the 5 % level, or cannot be made."""
        return self.p is None or self.p >= 1 - CONFIDENCE


def mean_of(values: np.ndarray) -> Mean:
    """Mean of a metric over runs [n]. Raises DataError for none."""
    if not len(values):
        raise DataError("no run to average")
    if len(values) == 1:
        return Mean(float(values[0]), None, 1)
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Mean(float(np.mean(values)), float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread, len(values))


def difference(values: Mapping[Run, float], baseline: Mapping[Run, float]) -> Difference:
    """A metric against a baseline's, paired by what names a run (its seed and category).

    Raises DataError where they have no run in common.
    """
    common = [run for run in values if run in baseline]
    if not common:
        raise DataError("nothing to compare: no run has the seed and category of one of the baseline")
    apart = np.array([values[run] - baseline[run] for run in common])
    mean = mean_of(apart)
    if mean.half is None:
        return Difference(mean, None)
    if np.ptp(apart) < _EQUAL:  # the t statistic of equal differences is infinite, or 0 / 0: the sign test's p instead
        return Difference(mean, 1.0 if abs(apart[0]) < _EQUAL else 2.0 ** (1 - len(apart)))
    return Difference(mean, float(stats.ttest_1samp(apart, 0.0).pvalue))


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Differences of several from one baseline, their p corrected for being several (Holm, 1979)."""
    tested = sorted((each.p, i) for i, each in enumerate(differences) if each.p is not None)
    corrected, least = list(differences), 0.0
    for rank, (p, i) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        corrected[i] = replace(differences[i], p=least)
    return corrected
