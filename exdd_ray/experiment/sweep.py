"""A sweep from its points to its results."""

import time
from collections.abc import Callable, Sequence

from exdd_ray.errors import ConfigError
from exdd_ray.experiment.plan import Plan, lay_out, make_plan
from exdd_ray.experiment.rates import read_rates
from exdd_ray.experiment.run_plan import TrialRunner, run_plan
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, Point, baseline, points_ahead
from exdd_ray.experiment.speed import milliseconds
from exdd_ray.experiment.sweep_results import SweepResults, results_of
from exdd_ray.experiment.tables import trials_table
from exdd_ray.extras import require
from exdd_ray.progress import Advance

# Chooses points as it goes; their trials are in the store then, and their results told of as they come.
Search = Callable[[LoadedSweep, Session, Advance], Sequence[Point]]


def plan_sweep(loaded: LoadedSweep, session: Session) -> Plan:
    """The plan of all points that are known before anything runs; of an adaptive search that is the baseline's.

    Raises UserError where a dataset is not there.
    """
    first = points_ahead(loaded) if loaded.sweep.searcher.kind in ("grid", "random") else [_baseline(loaded)]
    return make_plan(lay_out(first, session), session, read_rates(session.store.root))


def run_sweep(
    loaded: LoadedSweep,
    plan: Plan,
    session: Session,
    *,
    run: TrialRunner | None = None,
    search: Search | None = None,
) -> SweepResults:
    """Run what the store lacks of a planned sweep, and compare all of it.

    Args:
        run: runs trials side by side; None is one after another in this process.
        search: chooses the points of an adaptive searcher after the baseline.

    Raises ConfigError for an adaptive searcher without a `search`, or whose package is not installed.
    """
    started = time.perf_counter()
    searcher = loaded.sweep.searcher
    if searcher.kind == "tpe":
        require("optuna", "searcher.kind=tpe")
    outcomes = run_plan(plan, session, run)
    if searcher.kind in ("tpe", "asha"):
        if search is None:
            raise ConfigError(f"searcher.kind={searcher.kind} needs Ray (not --here)")
        with session.progress(f"{searcher.kind} search", (searcher.points or 1) - 1) as advance:
            points = search(loaded, session, advance)
        # a search may come to a point twice
        trials = {(one.point.name, one.dataset, one.category, one.trial.config.seed): one for one in plan.trials}
        for one in lay_out(points, session):
            trials.setdefault((one.point.name, one.dataset, one.category, one.trial.config.seed), one)
        plan = make_plan(tuple(trials.values()), session, read_rates(session.store.root))
        outcomes = run_plan(plan, session, run)
    table = trials_table(outcomes, milliseconds(loaded.sweep, outcomes, session))
    seconds = time.perf_counter() - started
    scored = scored_trials(one.artifact for one in outcomes if one.artifact)
    return results_of(loaded, plan, table, outcomes[0].planned.point.name, seconds, lambda key: scored.get(key, {}))


def _baseline(loaded: LoadedSweep) -> Point:
    settings, fidelity = baseline(loaded), loaded.sweep.searcher.fidelity
    if fidelity is not None:
        settings[list(loaded.keys.values())[-1]] = fidelity.rungs[-1]
    return loaded.point(0, settings)
