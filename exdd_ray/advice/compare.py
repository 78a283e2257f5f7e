"""What the candidates' trials say: means, differences from each other, and the one that is advised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from exdd_ray.advice.candidates import Candidate
from exdd_ray.errors import UserError
from exdd_ray.experiment.summary import ScoredTrials, judged_by, summarize
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.metrics.difference import Difference
from exdd_ray.metrics.seeds import Mean

METRIC = "image_auroc"


@dataclass(frozen=True)
class Compared:
    """Candidates of which all trials that were run have a result, in their order.

    Attributes:
        means: by name, on the images that judge.
        trials: as `trials_table` gives them.
    """

    candidates: tuple[Candidate, ...]
    means: Mapping[str, Mean]
    trials: pa.Table
    sweep: SweepConfig
    scored: ScoredTrials

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
    """The candidates without a failed trial. Raises UserError where the first, with which all are compared, has one."""
    column, single = judged_by(METRIC, sweep), given[0]
    failed = {row["name"]: row["error"] for row in trials.to_pylist() if row["state"] != "done"}
    if single.name in failed:
        raise UserError(f"{single.name} failed: {failed[single.name]}")
    points = summarize(trials, sweep, single.name, scored)
    means = {one.name: one.means[column] for one in points if one.name not in failed and column in one.means}
    return Compared(tuple(one for one in given if one.name in means), means, trials, sweep, scored)


def advised(compared: Compared) -> Candidate:
    """The best candidate, or one without synthetic defects within one standard error of it.

    The rule of Breiman et al. (Classification and Regression Trees, 1984): what is best by less than the error of the
    comparison is not worth making defects for. Detectors compete by their means of the differences from the single
    bank, so that candidates with fewer seeds are compared on the same images; those with less than half of its seeds do
    not compete, as one lucky draw would win, nor do those that learn fewer defects than there are to learn.
    """
    single = compared.candidates[0]
    most = max(one.defects for one in compared.candidates)
    half = compared.means[single.name].runs / 2
    fair = [one for one in compared.candidates if one.defects in (0, most) and compared.means[one.name].runs >= half]
    gains = {single.name: 0.0, **{name: one.mean.value for name, one in compared.apart(single).items()}}
    best = max(fair, key=lambda one: gains[one.name])
    apart = compared.apart(best)
    near = [one for one in fair if one is best or apart[one.name].mean.value >= -_error(apart[one.name])]
    return min(near, key=lambda one: (bool(one.synthetic), -gains[one.name]))


def _error(apart: Difference) -> float:
    """Standard error of a mean difference, or more where seeds or images are few; 0 where no noise was measured."""
    return (apart.mean.half or 0.0) / 2
