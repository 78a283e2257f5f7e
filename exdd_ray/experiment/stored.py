"""Trials as artifacts: metrics, predictions and curves, named by all that decides them, so that none is run twice."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from exdd_ray import __version__
from exdd_ray.config.base import identity
from exdd_ray.device import CPU, compute_device
from exdd_ray.experiment.assign import assign
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.session import Session
from exdd_ray.experiment.synthesis import synthesis_keys
from exdd_ray.experiment.trial import run_trial
from exdd_ray.experiment.trial_files import write_trial
from exdd_ray.methods.config import DetectorConfig
from exdd_ray.methods.table import method_of
from exdd_ray.store.artifact import Artifact, Recipe
from exdd_ray.store.code import code_digest

VERSION = 7


def trial_recipe(config: ExperimentConfig, universe: pa.Table, train: pa.Table, session: Session) -> Recipe:
    """Names the result of an experiment on one category, wherever its files lie; images are hashed, not decoded.

    Args:
        train: those of the universe that are trained on.
    """
    method = method_of(config.detector)
    made_by = {
        "experiment": identity(config),
        "category": universe["category"][0].as_py(),
        "code": code_digest(__name__, method.home),
        "version": __version__,
    }
    if (device := _device(config.detector, session)) != CPU:
        made_by["device"] = device
    if not method.repeats(config.detector):
        made_by["run"] = session.token
    inputs = (
        session.contents(universe),
        *method.inputs(config.detector),
        *synthesis_keys(config, universe, train, session),
    )
    return Recipe("trial", VERSION, made_by, inputs)


def _device(detector: DetectorConfig, session: Session) -> str:
    """Where a detector's stages compute what has other bits elsewhere."""
    training = method_of(detector).training(detector)
    asked = "auto" if training is None else training.device
    return (session.backend.device or compute_device()) if asked == "auto" else asked


def stored_trial(trial: Trial, universe: pa.Table, session: Session) -> Artifact:
    """Run an experiment on one category unless the store has its result; its metadata are the results' record.

    Raises UserError as run_trial.
    """
    store, train = session.store, assign(trial.config, universe).train

    def build(folder: Path) -> dict[str, Any]:
        with store.recording() as stages:
            result = run_trial(trial, universe, session)
        return {**write_trial(folder, result), "stages": sorted(stages)}

    return store.make(trial_recipe(trial.config, universe, train, session), build)
