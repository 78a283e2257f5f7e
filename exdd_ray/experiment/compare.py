"""Results as what differences are tested on: which runs go together, and what each test image adds to a metric."""

import json
from collections.abc import Sequence

import numpy as np

from exdd_ray.experiment.result import TrialResult, result_record
from exdd_ray.metrics.difference import Measured, Run
from exdd_ray.metrics.influence import Scored, influence_on
from exdd_ray.store.hashes import digest


def measured(results: Sequence[TrialResult], metric: str) -> dict[Run, Measured]:
    """A metric, by its column in the table of results, of each seed and category that has it."""
    found = {}
    for result in results:
        value = result_record(result)[metric]
        if value is not None:
            found[_run(result)] = Measured(float(str(value)), influence_on(metric, _scored(result)))
    return found


def _run(result: TrialResult) -> Run:
    config = result.trial.config
    tested = digest(sorted(row.id for row in result.predictions.rows))
    return Run(config.seed, json.dumps([config.dataset.name, result.category]), tested)


def _scored(result: TrialResult) -> Scored:
    rows = result.predictions.rows
    labels = np.array([row.label for row in rows])
    return Scored(tuple(row.id for row in rows), labels, np.asarray(result.predictions.scores, dtype=np.float64))
