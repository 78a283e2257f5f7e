"""Running candidates until a time is over: all with the first seed, then those that may still win with the next."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from exdd_ray.errors import UserError
from exdd_ray.experiment.plan import PlannedTrial, lay_out, make_plan
from exdd_ray.experiment.rates import read_rates
from exdd_ray.experiment.run_plan import Outcome, run_plan
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, points_ahead

# Outcomes so far -> names of the candidates that are not worth another seed.
Race = Callable[[Sequence[Outcome]], Collection[str]]


@dataclass(frozen=True)
class Ran:
    """What was run in the time.

    Attributes:
        outcomes: of the trials.
        left_out: names of the candidates for which there was no time at all.
        behind: names of the candidates that were not run with all seeds, as they could hardly win.
        longest: seconds of each candidate's longest trial, with all that it made first.
        seconds: that it took.
    """

    outcomes: tuple[Outcome, ...]
    left_out: tuple[str, ...]
    behind: frozenset[str]
    longest: Mapping[str, float]
    seconds: float

    @property
    def trials(self) -> tuple[PlannedTrial, ...]:
        """Those that were run."""
        return tuple(one.planned for one in self.outcomes)


def run_within(
    loaded: LoadedSweep,
    seconds: float,
    session: Session,
    race: Race = lambda _: (),
    told: Callable[[Outcome], None] = lambda _: None,
    *,
    spent: float = 0.0,
) -> Ran:
    """Run a sweep's trials, seed by seed, as long as the next is expected to end in time.

    A trial is expected to take what its candidate last took, or else the most that its kind of detector, or else any,
    took. So the time is exceeded by one trial at most. With a seed with which the first candidate fails no other is
    run, as there is nothing to compare it with.

    Args:
        race: asked before every further seed who is not run with it, nor with those after it, while others are: time
            goes first to those that may still win (Maron and Moore, Hoeffding races, 1994). The first candidate always
            goes on.
        told: of each trial, as it ends.
        spent: seconds of the time that are over already.

    Raises UserError where the first trial alone takes longer.
    """
    runs = _Runs(time.perf_counter() - spent, seconds, session, told)
    trials = lay_out(points_ahead(loaded), session, measured=False)  # validation images judge; tested ones may lack
    behind: set[str] = set()
    passed_over: list[PlannedTrial] = []
    for first, *others in _by_seed(trials):
        if not runs.allow(first):
            break
        if any(one.artifact for one in runs.outcomes):
            behind.update(race(runs.outcomes))
        if runs.run(first):
            runs.require_time_left(len(trials))
            runs.run_allowed(one for one in others if one.point.name not in behind)
            passed_over += [one for one in others if one.point.name in behind]
    behind = {one.point.name for one in runs.run_allowed(passed_over)}
    left_out = tuple(dict.fromkeys(one.point.name for one in trials if one.point.name not in runs.longest))
    return Ran(tuple(runs.outcomes), left_out, frozenset(behind), runs.longest, runs.elapsed)


def _by_seed(trials: Sequence[PlannedTrial]) -> Iterator[list[PlannedTrial]]:
    """The candidates' trials of every seed, in the candidates' order."""
    order = sorted(trials, key=lambda one: (one.trial.config.seed, one.point.number))
    return (list(of_seed) for _, of_seed in groupby(order, key=lambda one: one.trial.config.seed))


@dataclass
class _Runs:
    """Trials that are run one by one by the clock, and the seconds that each took."""

    started: float
    seconds: float
    session: Session
    told: Callable[[Outcome], None]
    outcomes: list[Outcome] = field(default_factory=list)
    spent: list[tuple[PlannedTrial, float]] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def longest(self) -> dict[str, float]:
        """Seconds of each candidate's longest trial."""
        longest: dict[str, float] = {}
        for one, seconds in self.spent:
            longest[one.point.name] = max(seconds, longest.get(one.point.name, 0.0))
        return longest

    def allow(self, one: PlannedTrial) -> bool:
        """Whether a trial is expected to end in time; the first one is tried."""
        return not self.spent or self.elapsed + self._expected(one) <= self.seconds

    def _expected(self, one: PlannedTrial) -> float:
        own = [seconds for each, seconds in self.spent if each.point.name == one.point.name]
        kind = one.trial.config.detector.kind
        alike = [seconds for each, seconds in self.spent if each.trial.config.detector.kind == kind]
        return own[-1] if own else max(alike or [seconds for _, seconds in self.spent])

    def run(self, one: PlannedTrial) -> bool:
        """Run a trial: whether it has a result."""
        begun = time.perf_counter()
        plan = make_plan([one], self.session, read_rates(self.session.store.root))
        self.outcomes += run_plan(plan, self.session, self.told)
        self.spent.append((one, time.perf_counter() - begun))
        return self.outcomes[-1].artifact is not None

    def run_allowed(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """Run those that are expected to end in time; the others."""
        late = []
        for one in trials:
            if self.allow(one):
                self.run(one)
            else:
                late.append(one)
        return late

    def require_time_left(self, trials: int) -> None:
        """Raise UserError where the first trial alone took all of the time."""
        if len(self.spent) == 1 and self.elapsed > self.seconds:
            raise UserError(
                f"{self.seconds:.3g} s are too short: the first of {trials} trials alone took {self.spent[0][1]:.0f} "
                "s; its result is in the store"
            )
