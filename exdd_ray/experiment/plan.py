"""The plan of a sweep: its trials on their images, what they have in common, and what of it the store has."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from exdd_ray.errors import UserError
from exdd_ray.experiment.assign import assign, require_both_labels
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.rates import Rates
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.share import AssignedTrial
from exdd_ray.experiment.space import Point
from exdd_ray.experiment.stored import trial_recipe
from exdd_ray.experiment.synth import pinned_trial
from exdd_ray.experiment.synthesis import synthesis_jobs
from exdd_ray.methods.method import BANKS, EMBEDDING, GAUSSIANS, NETWORKS, ORDERS, SEARCHES, Need
from exdd_ray.methods.table import method_of
from exdd_ray.synthesizers.job import CHUNK

FINE_TUNING, SYNTHESIS, TRIALS = "fine-tuning", "synthesis", "trials"
_ORDER = (
    EMBEDDING,
    FINE_TUNING,
    SYNTHESIS,
    ORDERS,
    BANKS,
    SEARCHES,
    GAUSSIANS,
    NETWORKS,
)  # as they are shown; others follow


@dataclass(frozen=True)
class PlannedTrial:
    """One experiment of a point on one category.

    Attributes:
        assigned: its images; None where the data do not allow it, and `error` says why.
        key: of the artifact that its result is.
    """

    point: Point
    dataset: str
    trial: Trial
    category: str
    assigned: AssignedTrial | None
    key: str
    error: str = ""


@dataclass(frozen=True)
class Stage:
    """Artifacts of one kind that the trials of a sweep ask for.

    Attributes:
        what: they are.
        distinct: to be made, or in the store.
        in_store: of those: already made, or needed by trials alone whose results are.
        uses: how often trials ask.
        seconds: that the missing ones will take at the pace last measured on this machine; None where none was.
    """

    stage: str
    what: str
    distinct: int
    in_store: int
    uses: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """All trials, those that cannot be run too, and the stages that make what they need."""

    trials: tuple[PlannedTrial, ...]
    stages: tuple[Stage, ...]

    def missing(self, stage: str) -> int:
        """Artifacts of a stage that are to be made."""
        return sum(one.distinct - one.in_store for one in self.stages if one.stage == stage)

    @property
    def headline(self) -> str:
        """As `60 trials: 84 embedding slices, 3 coreset orders; 0 of 87 in the store`."""
        made = [stage for stage in self.stages if stage.stage != TRIALS]
        parts = ", ".join(f"{stage.distinct} {stage.stage} ({stage.what})" for stage in made)
        total, there = sum(stage.distinct for stage in self.stages), sum(stage.in_store for stage in self.stages)
        return f"{len(self.trials)} trials: {parts}; {there} of {total} in the store"


def lay_out(points: Iterable[Point], session: Session, *, measured: bool = True) -> tuple[PlannedTrial, ...]:
    """Every experiment of the points on every category of its dataset; one that cannot be run says why.

    Args:
        measured: one whose test images allow no metrics cannot be run.

    Raises UserError where no image of a sweep's dataset is there at all.
    """
    planned = []
    for point in points:
        for dataset, given in point.trials:
            trial = pinned_trial(given)
            for category, universe in session.categories(trial.config.dataset).items():
                error, assigned, key = _assigned(trial, universe, session, measured)
                planned.append(PlannedTrial(point, dataset, trial, category, assigned, key, error))
    return tuple(planned)


def _assigned(
    trial: Trial, universe: pa.Table, session: Session, measured: bool
) -> tuple[str, AssignedTrial | None, str]:
    """Why a trial cannot be run, or its images and the key of its result."""
    try:
        assigned = AssignedTrial(trial, universe, assign(trial.config, universe))
        if measured:
            require_both_labels(assigned.assignment.test)
        return "", assigned, trial_recipe(trial.config, universe, assigned.assignment.train, session).key
    except UserError as error:
        return str(error), None, ""


@dataclass
class _Asked:
    """Artifacts of one stage, each with the trials that ask for it."""

    what: str
    in_store: bool
    askers: dict[str, list[str]] = field(default_factory=dict)


def make_plan(trials: Sequence[PlannedTrial], session: Session, rates: Rates) -> Plan:
    """What the trials need in common; nothing is computed, images are hashed."""
    asked: dict[str, _Asked] = {}
    for planned in trials:
        for need in _needs(planned, session) if planned.assigned else ():
            of_stage = asked.setdefault(need.stage, _Asked(need.what, need.in_store))
            for key in need.keys:
                of_stage.askers.setdefault(key, []).append(planned.key)
    done = {planned.key for planned in trials if planned.key and session.store.peek(planned.key) is not None}
    shown = sorted(asked, key=lambda stage: _ORDER.index(stage) if stage in _ORDER else len(_ORDER))
    stages = [_stage(stage, asked[stage], done, session, rates) for stage in shown]
    runnable = [planned for planned in trials if planned.assigned]
    left = len({planned.key for planned in runnable} - done)
    count = len(runnable)
    stages.append(Stage(TRIALS, "results", count, count - left, count, rates.seconds(TRIALS, left)))
    return Plan(tuple(trials), tuple(stages))


def _stage(stage: str, asked: _Asked, done: set[str], session: Session, rates: Rates) -> Stage:
    there = sum(
        session.store.peek(key) is not None if asked.in_store else set(trials) <= done
        for key, trials in asked.askers.items()
    )
    distinct = len(asked.askers)
    seconds = rates.seconds(stage, distinct - there)
    return Stage(stage, asked.what, distinct, there, sum(map(len, asked.askers.values())), seconds)


def _needs(planned: PlannedTrial, session: Session) -> Iterator[Need]:
    """What a trial asks of the store."""
    assert planned.assigned is not None
    config, train = planned.trial.config, planned.assigned.assignment.train
    jobs = synthesis_jobs(config, planned.assigned.universe, train, session)
    trained = tuple({job.training.key for job in jobs if job.training is not None})
    if trained:
        yield Need(FINE_TUNING, "painters", trained, in_store=True)
    chunks = [job.recipe.key for job in jobs]
    if chunks:
        yield Need(SYNTHESIS, f"chunks of {CHUNK} images", tuple(chunks), in_store=True)
    yield from method_of(config.detector).needs(config.detector, planned.assigned.planned(chunks), session)
