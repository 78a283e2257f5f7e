"""Running a sweep's trials: what they share first, then each for itself; one that fails does so alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exdd_ray.errors import Fault, fault_of
from exdd_ray.experiment.plan import TRIALS, Plan, PlannedTrial
from exdd_ray.experiment.rates import keep_rates
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.shared_stages import make_shared
from exdd_ray.experiment.stored import stored_trial
from exdd_ray.progress import Advance
from exdd_ray.store.artifact import Artifact

# Puts the results of trials into the store; tells why those failed that did, by key.
TrialRunner = Callable[[Sequence[PlannedTrial], Session, Advance], Mapping[str, Fault]]


@dataclass(frozen=True)
class Outcome:
    """What a trial of a sweep gave: its artifact, or why there is none, with the traceback of a programming error."""

    planned: PlannedTrial
    artifact: Artifact | None
    error: str
    trace: str = ""


def run_plan(plan: Plan, session: Session, run: TrialRunner | None = None) -> list[Outcome]:
    """Run the trials of a plan that the store has no result of.

    Args:
        run: runs them side by side; None is one after another in this process.
    """
    store = session.store
    measured = make_shared(plan, session)
    waiting = list({one.key: one for one in plan.trials if one.assigned and store.find(one.key) is None}.values())
    started = time.perf_counter()
    errors: Mapping[str, Fault] = {}
    if waiting:
        with session.progress("trials", len(waiting)) as advance:
            errors = (run or run_here)(waiting, session, advance)
        measured[TRIALS] = (time.perf_counter() - started) / len(waiting)
        keep_rates(store.root, measured)
    return [outcome_of(one, session, errors) for one in plan.trials]


def run_here(trials: Sequence[PlannedTrial], session: Session, advance: Advance) -> dict[str, Fault]:
    """Run trials one after another in this process; a TrialRunner."""
    errors = {}
    for planned in trials:
        if error := run_planned(planned, session):
            errors[planned.key] = error
        advance(1)
    return errors


def run_planned(planned: PlannedTrial, session: Session) -> Fault | None:
    """Put a trial's result into the store: why that failed, or nothing."""
    assert planned.assigned is not None
    try:
        stored_trial(planned.trial, planned.assigned.universe, session)
    except Exception as error:  # whatever it is, the other trials go on
        return fault_of(error)
    return None


def outcome_of(planned: PlannedTrial, session: Session, errors: Mapping[str, Fault | None]) -> Outcome:
    """A trial's result in the store, or why there is none."""
    artifact = session.store.find(planned.key) if planned.key else None
    lost = "its result is not in the store: do the workers reach it by this path?"
    fault = Fault(planned.error) if planned.error else errors.get(planned.key) or Fault(lost)
    return Outcome(planned, artifact, *(("", "") if artifact else (fault.line, fault.trace)))
