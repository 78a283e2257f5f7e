"""Running candidates until a time is over: every one with the first seed, then every one with the next."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
        longest: seconds of each other candidate's longest trial, with all that it made first.
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
    trials = lay_out(
        points_ahead(loaded), session, measured=False
    )  # judged by validation images: the test may lack any
    planned = sorted(trials, key=lambda one: (one.trial.config.seed, one.point.number))
    took: dict[str, float] = {}
    longest: dict[str, float] = {}
    most: dict[str, float] = {}
    outcomes: list[Outcome] = []
    paired: set[int] = set()
    for one in planned:
        name, kind, begun = one.point.name, one.trial.config.detector.kind, time.perf_counter()
        expected = took.get(name, most.get(kind, max(most.values(), default=0.0)))
        late = begun - started + expected > seconds
        if outcomes and (late or not (name == planned[0].point.name or one.trial.config.seed in paired)):
            continue  # without the first candidate's trial of the seed there is nothing to compare it with
        outcomes += run_plan(make_plan([one], session, read_rates(session.store.root)), session, told)
        paired.add(one.trial.config.seed)
        took[name] = time.perf_counter() - begun
        longest[name] = max(took[name], longest.get(name, 0.0))
        most[kind] = max(took[name], most.get(kind, 0.0))
        if len(outcomes) == 1 and outcomes[0].artifact is None:
            raise UserError(f"{name} failed: {outcomes[0].error}")
        if len(outcomes) == 1 and time.perf_counter() - started > seconds:
            raise UserError(
                f"{seconds:.3g} s are too short: the first of {len(planned)} trials alone took {took[name]:.0f} s; its "
                "result is in the store"
            )
    left_out = tuple(dict.fromkeys(one.point.name for one in planned if one.point.name not in took))
    return Ran(tuple(outcomes), left_out, longest, time.perf_counter() - started)
