"""What an adaptive search is told of a point: the means of its objectives."""

import math

import numpy as np

from exdd_ray.experiment.workshop import Workshop
from exdd_ray.sweep.plan import lay_out
from exdd_ray.sweep.run import outcome_of, run_planned
from exdd_ray.sweep.space import LoadedSweep, Point
from exdd_ray.sweep.speed import milliseconds
from exdd_ray.sweep.summary import judged_by
from exdd_ray.sweep.tables import trials_table


def objective_means(loaded: LoadedSweep, point: Point, workshop: Workshop) -> dict[str, float]:
    """Objective -> its mean over the point's trials, which are run where the store lacks them.

    It is NaN where one failed; the sweep's table then says why.
    """
    planned = lay_out([point], workshop)
    errors = {one.key: run_planned(one, workshop) for one in planned if one.assigned}
    outcomes = [outcome_of(one, workshop, errors) for one in planned]
    table = trials_table(outcomes, milliseconds(loaded.sweep, outcomes, workshop))
    columns = {str(metric): table[judged_by(metric, loaded.sweep)].to_pylist() for metric in loaded.sweep.objectives}
    return {metric: math.nan if None in values else float(np.mean(values)) for metric, values in columns.items()}
