"""What several seeds say of a metric: means with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from exdd_ray.errors import DataError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """Mean over runs with its 95 % interval by Student's t, which is unknown (None) with a single run."""

    value: float
    half: float | None
    runs: int


def mean_of(values: np.ndarray) -> Mean:
    """Mean of a metric over runs [n]. Raises DataError for none."""
    if not len(values):
        raise DataError("no run to average")
    if len(values) == 1:
        return Mean(float(values[0]), None, 1)
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Mean(float(np.mean(values)), float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread, len(values))


def mean_by_seed(values: Mapping[tuple[int, str], float]) -> dict[int, float]:
    """The mean of each seed over the places, as datasets and categories, that it was run on: seed, place -> value."""
    seeds = dict.fromkeys(seed for seed, _ in values)
    return {seed: float(np.mean([value for (own, _), value in values.items() if own == seed])) for seed in seeds}
