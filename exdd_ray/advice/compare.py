"""What the candidates' trials say: means, differences from each other, who may still win, and who is advised."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.advice.candidates import Candidate
from exdd_ray.errors import UserError
from exdd_ray.experiment.summary import ScoredTrials, judged_by, summarize
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.tables import Row
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.seeds import Mean

METRIC = "image_auroc"


@dataclass(frozen=True)
class Compared:
    """Candidates of which all trials that were run have a result, in their order.

    Attributes:
        means: by name, on the images that judge.
        trials: as `trials_table` gives them, of the seeds that are compared.
        lost: seed -> why the first candidate failed with it, so that nothing can be compared with it.
    """

    candidates: tuple[Candidate, ...]
    means: Mapping[str, Mean]
    trials: pa.Table
    sweep: SweepConfig
    scored: ScoredTrials
    lost: Mapping[int, str] = field(default_factory=dict)

    def apart(self, of: Candidate) -> Mapping[str, Difference]:
        """By name how all others differ from one, on the same images with the same seeds."""
        column = judged_by(METRIC, self.sweep)
        points = summarize(self.trials, self.sweep, of.name, self.scored)
        return {one.name: one.differences[column] for one in points if column in one.differences}

    def find(self, learner: str, defects: int, synthetic: str = "") -> Candidate | None:
        """The candidate, if it was run."""
        wanted = (learner, defects, synthetic)
        return next((one for one in self.candidates if (one.learner, one.defects, one.synthetic) == wanted), None)


def compare(given: Sequence[Candidate], trials: pa.Table, sweep: SweepConfig, scored: ScoredTrials) -> Compared:
    """The candidates without a failed trial, on the seeds with which the first one did not fail.

    Raises UserError where the first, with which all are compared, failed with every seed.
    """
    column, single = judged_by(METRIC, sweep), given[0]
    lost = {row["seed"]: row["error"] for row in _failed(trials) if row["name"] == single.name}
    kept = trials.filter(pc.invert(pc.is_in(trials["seed"], pa.array(list(lost), pa.int64()))))
    if not kept.num_rows:
        raise UserError(f"{single.name} failed: {next(iter(lost.values()))}")
    failed = {row["name"] for row in _failed(kept)}
    points = summarize(kept, sweep, single.name, scored)
    means = {one.name: one.means[column] for one in points if one.name not in failed and column in one.means}
    return Compared(tuple(one for one in given if one.name in means), means, kept, sweep, scored, lost)


def _failed(trials: pa.Table) -> Iterator[Row]:
    return (row for row in trials.to_pylist() if row["state"] != "done")


def advised(compared: Compared) -> Candidate:
    """The best candidate, or one without synthetic defects within one standard error of it.

    The rule of Breiman et al. (Classification and Regression Trees, 1984): what is best by less than the error of the
    comparison is not worth making defects for.
    """
    fair, gains = _competing(compared), _gains(compared)
    best = max(fair, key=lambda one: gains[one.name])
    apart = compared.apart(best)
    near = [one for one in fair if one is best or apart[one.name].mean.value >= -_error(apart[one.name])]
    return min(near, key=lambda one: (bool(one.synthetic), -gains[one.name]))


def left_behind(compared: Compared) -> frozenset[str]:
    """Detectors that others go before: the best of each is behind the best of all by more than the error of that.

    A race (Maron and Moore, Hoeffding races, 1994), with the measure of `advised` in place of Hoeffding's bound; after
    a single seed, whose noise is not measured, with all of the 95 % interval. Where no noise was measured, nobody is
    behind.
    """
    gains = _gains(compared)
    ranked = sorted(_competing(compared), key=lambda one: gains[one.name])
    apart = compared.apart(ranked[-1])
    own = {one.learner: one for one in ranked}  # of a detector's candidates the last, its best, stays
    behind = {learner: apart[one.name] for learner, one in own.items() if one is not ranked[-1]}
    return frozenset(name for name, by in behind.items() if _clearly_behind(by))


def _clearly_behind(by: Difference) -> bool:
    if by.mean.half is None:
        return False
    return by.mean.value < -(by.mean.half if by.unmeasured == "seeds" else _error(by))


def _competing(compared: Compared) -> list[Candidate]:
    """Candidates among which the best is looked for.

    Not those with less than half of the single bank's seeds, as one lucky draw would win, nor those that learn fewer
    defects than there are to learn.
    """
    most = max(one.defects for one in compared.candidates)
    half = compared.means[compared.candidates[0].name].runs / 2
    return [one for one in compared.candidates if one.defects in (0, most) and compared.means[one.name].runs >= half]


def _gains(compared: Compared) -> Mapping[str, float]:
    """By name the mean difference from the single bank: candidates with fewer seeds are compared on the same images."""
    single = compared.candidates[0]
    return {single.name: 0.0, **{name: one.mean.value for name, one in compared.apart(single).items()}}


def _error(apart: Difference) -> float:
    """Standard error of a mean difference, or more where seeds or images are few; 0 where no noise was measured."""
    return (apart.mean.half or 0.0) / 2
