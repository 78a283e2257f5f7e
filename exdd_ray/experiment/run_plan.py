"""Running trials: what they share first, then each for itself; one that fails does so alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exdd_ray.errors import Fault, fault_of
from exdd_ray.experiment.backend import Done
from exdd_ray.experiment.plan import TRIALS, Plan, PlannedTrial
from exdd_ray.experiment.rates import keep_rates
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.shared_stages import make_shared
from exdd_ray.experiment.stored import stored_trial
from exdd_ray.store.artifact import Artifact


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: its artifact, or why there is none, with the traceback of a programming error."""

    planned: PlannedTrial
    artifact: Artifact | None
    error: str
    trace: str = ""


def _ignore(outcome: object) -> None:
    del outcome


def run_plan(plan: Plan, session: Session, told: Callable[[Outcome], None] = _ignore) -> list[Outcome]:
    """Run the trials of a plan that the store has no result of, where the session's backend does.

    Args:
        told: of each that was run, as it ends.
    """
    store = session.store
    measured = make_shared(plan, session)
    waiting = list({one.key: one for one in plan.trials if one.assigned and store.find(one.key) is None}.values())
    started = time.perf_counter()
    errors: dict[str, Fault] = {}
    if waiting:
        with session.progress("trials", len(waiting)) as advance:

            def done(planned: PlannedTrial, fault: Fault | None) -> None:
                if fault:
                    errors[planned.key] = fault
                advance(1)
                told(outcome_of(planned, session, errors))

            (session.backend.trials or run_here)(waiting, session, done)
        measured[TRIALS] = (time.perf_counter() - started) / len(waiting)
        keep_rates(store.root, measured)
    return [outcome_of(one, session, errors) for one in plan.trials]


def run_here(trials: Sequence[PlannedTrial], session: Session, done: Done) -> None:
    """Run trials one after another in this process; a TrialRunner."""
    for planned in trials:
        done(planned, run_planned(planned, session))


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
