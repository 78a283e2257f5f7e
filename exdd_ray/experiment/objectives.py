"""What an adaptive search is told of a point: the means of its objectives."""

import math

import numpy as np

from exdd_ray.experiment.plan import lay_out
from exdd_ray.experiment.run_plan import outcome_of, run_planned
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.space import LoadedSweep, Point
from exdd_ray.experiment.speed import milliseconds
from exdd_ray.experiment.summary import judged_by
from exdd_ray.experiment.tables import trials_table


def objective_means(loaded: LoadedSweep, point: Point, session: Session) -> dict[str, float]:
    """Objective -> its mean over the point's trials, which are run where the store lacks them.

    It is NaN where one failed; the sweep's table then says why.
    """
    planned = lay_out([point], session)
    errors = {one.key: run_planned(one, session) for one in planned if one.assigned}
    outcomes = [outcome_of(one, session, errors) for one in planned]
    table = trials_table(outcomes, milliseconds(loaded.sweep, outcomes, session))
    columns = {metric: table[judged_by(metric, loaded.sweep)].to_pylist() for metric in loaded.sweep.objectives}
    return {metric: math.nan if None in values else float(np.mean(values)) for metric, values in columns.items()}
