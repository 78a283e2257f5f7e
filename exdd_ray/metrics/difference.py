"""Whether a metric differs from a baseline's by more than noise: that of the test images, and that of the seeds.

Both detectors score the same images, and each seed trains both. With d_s the difference of seed s, and u_is the
influence of image i on it, the variance of the mean over S seeds is estimated as

    (sum over classes and places of n / (n - 1) * sum over i of (mean over s of u_is)^2) + (variance of d_s over s) / S

The first part is what other test images would change, and falls with the seeds only as far as their images differ. The
second is what training anew would change; where seeds test different images it holds their noise once more, so that the
test is then on the safe side. Degrees of freedom are Welch's and Satterthwaite's (1946).
tests/unit/metrics/test_difference.py measures how often it is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from exdd_ray.errors import DataError
from exdd_ray.metrics.influence import Influence
from exdd_ray.metrics.seeds import CONFIDENCE, Mean, mean_by_seed

_EQUAL = 1e-12  # apart by no more than rounding
Noise = Literal["images", "seeds"]


class Run(NamedTuple):
    """What a metric is paired by.

    Attributes:
        place: dataset and category.
        tested: tells the test images and their labels apart: on others a metric is another one.
    """

    seed: int
    place: str
    tested: str


@dataclass(frozen=True)
class Measured:
    """A metric of one run; `influence` of the test images on it is None where that is not known."""

    value: float
    influence: Influence | None = None


@dataclass(frozen=True)
class Difference:
    """Mean difference from a baseline over the runs that both have.

    Attributes:
        mean: over seeds, with the 95 % interval of all noise that was measured.
        p: that it is zero, by the same noise; None where none was measured.
        unmeasured: the noise that interval and p leave out: of the seeds where there is one, of the images where their
            influence is not known.
    """

    mean: Mean
    p: float | None
    unmeasured: Noise | None

    @property
    def clear(self) -> bool:
        """Whether the test tells the difference from zero at the 5 % level, by the noise that was measured."""
        return self.p is not None and self.p < 1 - CONFIDENCE

    @property
    def within_noise(self) -> bool:
        """Whether it is not shown to be more than noise; it is not while part of the noise is unmeasured."""
        return not self.clear or self.unmeasured is not None


class _Part(NamedTuple):
    """A part of the variance of a mean difference, and its degrees of freedom."""

    variance: float
    freedom: int


def difference(values: Mapping[Run, Measured], baseline: Mapping[Run, Measured], *, of_images: bool) -> Difference:
    """A metric against a baseline's, paired run by run; a seed is one run, whatever the places.

    Args:
        of_images: whether the metric depends on the test images, as a bank's size does not.

    Raises DataError where they have no run in common.
    """
    common = [run for run in values if run in baseline]
    if not common:
        raise DataError("nothing to compare: no run has the seed, category and test images of one of the baseline")
    apart = {(run.seed, run.place): values[run].value - baseline[run].value for run in common}
    by_seed = np.array(list(mean_by_seed(apart).values()))
    seeds = len(by_seed)
    if not of_images and seeds > 1 and np.ptp(by_seed) < _EQUAL:  # a count that the seeds do not change has no noise
        return Difference(Mean(float(by_seed[0]), 0.0, seeds), float(abs(by_seed[0]) < _EQUAL), None)
    images = _image_parts(values, baseline, common) if of_images else []
    parts = [*(images or []), *([_Part(float(np.var(by_seed, ddof=1)) / seeds, seeds - 1)] if seeds > 1 else [])]
    unmeasured: Noise | None = "images" if images is None else "seeds" if seeds == 1 else None
    value = float(np.mean(by_seed))
    if not parts:
        return Difference(Mean(value, None, seeds), None, unmeasured)
    half, p = _test(value, parts)
    return Difference(Mean(value, half, seeds), p, unmeasured)


def _image_parts(
    values: Mapping[Run, Measured], baseline: Mapping[Run, Measured], common: Sequence[Run]
) -> list[_Part] | None:
    """A part for each place and class; None where an influence is not known, or a class has one image."""
    of_seed = {seed: sum(run.seed == seed for run in common) for seed in {run.seed for run in common}}
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for run in common:
        mine, theirs = values[run].influence, baseline[run].influence
        if mine is None or theirs is None:
            return None
        for label in ("normal", "defective"):
            total = sums.setdefault((run.place, label), {})
            subtracted = getattr(theirs, label)
            for image, value in getattr(mine, label).items():
                share = (value - subtracted[image]) / (len(of_seed) * of_seed[run.seed])
                total[image] = total.get(image, 0.0) + share
    if any(len(total) < 2 for total in sums.values()):
        return None
    return [_image_part(np.array(list(total.values()))) for total in sums.values()]


def _image_part(influences: np.ndarray) -> _Part:
    images = len(influences)
    return _Part(float(influences @ influences) * images / (images - 1), images - 1)


def _test(value: float, parts: Sequence[_Part]) -> tuple[float, float]:
    """Half width of the 95 % interval of a mean, and the p of its being zero."""
    variance = sum(part.variance for part in parts)
    if variance < _EQUAL**2:  # nothing varies: the sign test, of what there is fewest of
        return 0.0, 1.0 if abs(value) < _EQUAL else 2.0 ** -min(part.freedom for part in parts)
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    error = variance**0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return half, float(2 * stats.t.sf(abs(value) / error, freedom))


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Differences of several from one baseline, their p corrected for being several (Holm, 1979)."""
    tested = sorted((each.p, i) for i, each in enumerate(differences) if each.p is not None)
    corrected, least = list(differences), 0.0
    for rank, (p, i) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * p))
        corrected[i] = replace(differences[i], p=least)
    return corrected
