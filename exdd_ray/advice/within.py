"""Running candidates until a time is over: every one with the first seed, then every one with the next."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exdd_ray.errors import UserError
from exdd_ray.experiment.plan import PlannedTrial, lay_out, make_plan
from exdd_ray.experiment.rates import read_rates
from exdd_ray.experiment.run_plan import Outcome, run_plan
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, points_ahead


@dataclass(frozen=True)
class Ran:
    """What was run in the time.

    Attributes:
        outcomes: of the trials.
        left_out: names of the candidates for which there was no time at all.
        longest: seconds of each candidate's longest trial, with all that it made first.
        seconds: that it took.
    """

    outcomes: tuple[Outcome, ...]
    left_out: tuple[str, ...]
    longest: Mapping[str, float]
    seconds: float

    @property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """Those that were run."""
        return tuple(one.planned for one in self.outcomes)


def run_within(
    loaded: LoadedSweep, seconds: float, session: Session, told: Callable[[Outcome], None] = lambda _: None
) -> Ran:
    """Run a sweep's trials, seed by seed, as long as the next is expected to end in time.

    A trial is expected to take what its candidate last took, or else the most that its kind of detector, or else any,
    took. So the time is exceeded by one trial at most.

    Args:
        told: of each trial, as it ends.

    Raises UserError where the first trial fails, or takes longer alone.
    """
    started = time.perf_counter()
    trials = lay_out(points_ahead(loaded), session, measured=False)  # validation images judge; tested ones may lack
    planned = sorted(trials, key=lambda one: (one.trial.config.seed, one.point.number))
    first = planned[0].point.name
    outcomes: list[Outcome] = []
    spent: list[_Spent] = []
    for one in planned:
        begun, seed = time.perf_counter(), one.trial.config.seed
        paired = one.point.name == first or any(seed == each.seed for each in spent if each.name == first)
        if spent and not (paired and begun - started + _expected(one, spent) <= seconds):
            continue  # without the first candidate's trial of the seed there is nothing to compare it with
        outcomes += run_plan(make_plan([one], session, read_rates(session.store.root)), session, told)
        spent.append(_Spent(one.point.name, one.trial.config.detector.kind, seed, time.perf_counter() - begun))
        if len(spent) == 1:
            _require_first(outcomes[0], spent[0], len(planned), seconds, time.perf_counter() - started)
    longest: dict[str, float] = {}
    for each in spent:
        longest[each.name] = max(each.seconds, longest.get(each.name, 0.0))
    left_out = tuple(dict.fromkeys(one.point.name for one in planned if one.point.name not in longest))
    return Ran(tuple(outcomes), left_out, longest, time.perf_counter() - started)


class _Spent(NamedTuple):
    """Seconds of a trial: of a candidate, a kind of detector, a seed."""

    name: str
    kind: str
    seed: int
    seconds: float


def _expected(one: PlannedTrial, spent: Sequence[_Spent]) -> float:
    own = [each.seconds for each in spent if each.name == one.point.name]
    alike = [each.seconds for each in spent if each.kind == one.trial.config.detector.kind]
    return own[-1] if own else max(alike or [each.seconds for each in spent])


def _require_first(outcome: Outcome, spent: _Spent, trials: int, allowed: float, elapsed: float) -> None:
    if outcome.artifact is None:
        raise UserError(f"{spent.name} failed: {outcome.error}")
    if elapsed > allowed:
        raise UserError(
            f"{allowed:.3g} s are too short: the first of {trials} trials alone took {spent.seconds:.0f} s; its "
            "result is in the store"
        )
