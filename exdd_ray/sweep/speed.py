"""Milliseconds an image, as an objective: measured once for each kind of detector, on the machine that asks."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exdd_ray.errors import UserError
from exdd_ray.experiment.fit import fit
from exdd_ray.experiment.trial import prepare_trial
from exdd_ray.experiment.workshop import Workshop
from exdd_ray.store.artifact import Recipe
from exdd_ray.sweep.rates import machine
from exdd_ray.sweep.run import Outcome

VERSION = 1
_IMAGES = 16
_REPEATS = 3


def milliseconds(outcomes: Sequence[Outcome], workshop: Workshop) -> dict[str, float]:
    """Milliseconds an image of every trial that has a result, by its key: decoding, network, search and score.

    The median of three runs over sixteen test images, beside whatever else the machine does. Detectors of one kind,
    features and bank sizes are measured once.
    """
    return {one.planned.key: _milliseconds(one, workshop) for one in outcomes if one.artifact is not None}


def _milliseconds(outcome: Outcome, workshop: Workshop) -> float:
    assert outcome.artifact is not None
    detector, record = outcome.planned.trial.config.detector, outcome.artifact.metadata
    how = {
        "detector": detector.model_dump(mode="json", exclude={"bank", "positives"}),
        "banks": [record["negative_bank"], record["positive_bank"]],
        "machine": machine(),
    }

    def build(_: Path) -> dict[str, Any]:
        return {"milliseconds": 1000 * _measure(outcome, workshop)}

    return float(workshop.store.make(Recipe("speed", VERSION, how), build).metadata["milliseconds"])


def _measure(outcome: Outcome, workshop: Workshop) -> float:
    assigned, config = outcome.planned.assigned, outcome.planned.trial.config
    if assigned is None:
        raise UserError(f"{outcome.planned.point.name}: cannot be timed: {outcome.error}")
    images = prepare_trial(config, assigned.universe, workshop).images
    fitted, tested = fit(config.detector, images, workshop, config.seed), images.test.slice(0, _IMAGES)
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        fitted.afresh(tested)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) / tested.num_rows
