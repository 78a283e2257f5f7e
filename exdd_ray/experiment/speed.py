"""Milliseconds an image, as an objective: measured once for each kind of detector, on the machine that asks."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from exdd_ray.config.base import Size, identity
from exdd_ray.data.images import image_size
from exdd_ray.device import compute_device
from exdd_ray.errors import UserError
from exdd_ray.experiment.rates import machine
from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.trial import prepare_trial
from exdd_ray.methods.table import method_of
from exdd_ray.store.artifact import Recipe

VERSION = 3
_IMAGES = 16
_REPEATS = 3


def milliseconds(sweep: SweepConfig, outcomes: Sequence[Outcome], session: Session) -> dict[str, float]:
    """Milliseconds an image of every trial that has a result, by its key, where they are an objective.

    They are of decoding, network, search and score.

    The fastest of three runs over sixteen test images on one thread (or the GPU), as other work on the machine can only
    slow them. Detectors that are equal but for the contents of their banks are measured once.
    """
    if "milliseconds" not in sweep.objectives:
        return {}
    return {one.planned.key: _milliseconds(one, session) for one in outcomes if one.artifact is not None}


def _milliseconds(outcome: Outcome, session: Session) -> float:
    assert outcome.artifact is not None
    detector, record = outcome.planned.trial.config.detector, outcome.artifact.metadata
    how = {
        "detector": identity(detector),
        "banks": [record["negative_bank"], record["positive_bank"]],
        "image": _image_size(outcome),
        "device": compute_device(),
        "machine": machine(),
    }

    def build(_: Path) -> dict[str, Any]:
        return {"milliseconds": 1000 * _measure(outcome, session)}

    return float(session.store.make(Recipe("speed", VERSION, how), build).metadata["milliseconds"])


def _measure(outcome: Outcome, session: Session) -> float:
    assigned, config = outcome.planned.assigned, outcome.planned.trial.config
    if assigned is None:
        raise UserError(f"{outcome.planned.point.name}: cannot be timed: {outcome.error}")
    images = prepare_trial(config, assigned.universe, session).images
    fitted = method_of(config.detector).fit(config.detector, images, session, config.seed)
    tested = images.test.slice(0, _IMAGES)
    seconds, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(_REPEATS):
            started = time.perf_counter()
            fitted.predict_from_files(tested)
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return min(seconds) / tested.num_rows


def _image_size(outcome: Outcome) -> Size:
    """(height, width) of the first test image's file, in pixels."""
    assert outcome.planned.assigned is not None
    return image_size(outcome.planned.assigned.assignment.test["image"][0].as_py())
