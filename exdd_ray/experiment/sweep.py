"""A run or a sweep from its points to its results."""

import time
from collections.abc import Callable
from pathlib import Path

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.backend import Tuner
from exdd_ray.experiment.plan import Plan, PlannedTrial, lay_out, make_plan
from exdd_ray.experiment.rates import read_rates
from exdd_ray.experiment.run_plan import Outcome, run_plan
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, Point, baseline, points_ahead
from exdd_ray.experiment.speed import milliseconds
from exdd_ray.experiment.sweep_results import SweepResults, results_of
from exdd_ray.experiment.tables import predictions_table, trials_table
from exdd_ray.extras import require


def plan_sweep(loaded: LoadedSweep, session: Session) -> Plan:
    """The plan of all points that are known before anything runs; of an adaptive search that is the baseline's.

    Raises UserError where a dataset is not there.
    """
    first = points_ahead(loaded) if loaded.sweep.tuner.kind in ("grid", "random") else [_baseline(loaded)]
    planned = lay_out(first, session, measured=loaded.command == "sweep")
    return make_plan(planned, session, read_rates(session.store.root))


def run_sweep(
    loaded: LoadedSweep,
    plan: Plan,
    session: Session,
    folder: Path | None = None,
    told: Callable[[Outcome], None] = lambda _: None,
) -> SweepResults:
    """Run what the store lacks of a planned sweep, and compare all of it.

    Args:
        folder: of the results, where an adaptive search keeps its state.
        told: of each trial that was run, as it ends.

    Raises ConfigError for an adaptive search that the session's backend does not do, or whose package is not installed.
    """
    started, kind = time.perf_counter(), loaded.sweep.tuner.kind
    if kind == "tpe":
        require("optuna", "tuner.kind=tpe")
    outcomes = run_plan(plan, session, told)
    if kind in ("tpe", "asha"):
        if session.backend.tune is None or folder is None:
            raise ConfigError(f"tuner.kind={kind} needs Ray (not --here)")
        plan = _with_chosen(loaded, plan, session.backend.tune, session, folder)
        outcomes = run_plan(plan, session, told)
    table = trials_table(outcomes, milliseconds(loaded.sweep, outcomes, session))
    seconds = time.perf_counter() - started
    predictions = predictions_table(outcomes)
    scored = scored_trials(one.artifact for one in outcomes if one.artifact)
    baseline = outcomes[0].planned.point.name
    return results_of(loaded, plan, table, baseline, seconds, lambda key: scored.get(key, {}), predictions)


def _with_chosen(loaded: LoadedSweep, plan: Plan, tune: Tuner, session: Session, folder: Path) -> Plan:
    """A plan with the points that an adaptive search chooses too, which may come to one twice."""
    tuner = loaded.sweep.tuner
    with session.progress(f"{tuner.kind} search", (tuner.points or 1) - 1) as advance:
        points = tune(loaded, session, folder, advance)
    trials: dict[tuple[str, str, str, int], PlannedTrial] = {}
    for one in (*plan.trials, *lay_out(points, session)):
        trials.setdefault((one.point.name, one.dataset, one.category, one.trial.config.seed), one)
    return make_plan(tuple(trials.values()), session, read_rates(session.store.root))


def _baseline(loaded: LoadedSweep) -> Point:
    settings, fidelity = baseline(loaded), loaded.sweep.tuner.fidelity
    if fidelity is not None:
        settings[list(loaded.keys.values())[-1]] = fidelity.rungs[-1]
    return loaded.point(0, settings)
