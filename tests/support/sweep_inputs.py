"""The results' folder of a small sweep, as a sweep writes it; its trials' metrics come from a plain formula."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from report_inputs import GRID, INPUT, make_rows

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.plan import Plan, PlannedTrial, Stage
from exdd_ray.experiment.result import Evaluation, TrialResult
from exdd_ray.experiment.space import LoadedSweep, Point
from exdd_ray.experiment.sweep_config import SweepConfig
from exdd_ray.experiment.sweep_results import results_of, write_results
from exdd_ray.experiment.tables import TRIALS_SCHEMA
from exdd_ray.experiment.trial_files import write_trial
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.evaluate import image_metrics
from exdd_ray.store.artifact import Recipe, Store

MEASURED = ("image_auroc", "pixel_auroc", "image_ap", "pixel_ap", "aupro")
ERROR = "DataError: nothing <defective> to test"
LEAKAGE = "leakage: training defects (4) were taken from the <test> split"
STAGES = (
    Stage("embedding", "slices of images", distinct=84, in_store=10, uses=5040, seconds=30.12),
    Stage("coreset orders", "artifacts", distinct=24, in_store=0, uses=96, seconds=None),
)
_SPACE: dict[str, Sequence[Any]] = {
    "variant": ("painted <blend>", "cutpaste"),
    "count": (0, 50, 100, 150),
    "rate": (0.01, 0.1),
}


@dataclass(frozen=True)
class Inputs:
    """A sweep: values by short key, metrics that were not measured, points whose last seed failed, is there a store."""

    space: Mapping[str, Sequence[Any]] = field(default_factory=lambda: _SPACE)
    seeds: tuple[int, ...] = (0, 1, 2)
    categories: tuple[str, ...] = ("ceramic", "wood")
    objectives: tuple[str, ...] = ("image_auroc", "bank_vectors")
    select: str = "validation"
    remarks: str = ""
    failed: tuple[int, ...] = ()
    without: tuple[str, ...] = ("milliseconds",)
    stages: tuple[Stage, ...] = STAGES
    stored: bool = True


def make_sweep(folder: Path, **changes: Any) -> Path:
    """Write the folder, and beside it the images and the store with the trials' artifacts."""
    inputs = replace(Inputs(), **changes)
    folder.mkdir(parents=True)
    raw = {
        "name": "count & <rate>",
        "store": str(folder.parent / "store"),
        "space": {"synthesizer.count": [0, 50], "detector.bank.negative.rate": [0.01, 0.1]},
        "objectives": list(inputs.objectives),
        "select": inputs.select,
    }
    loaded = LoadedSweep(SweepConfig.model_validate(raw), raw, Path("sweep.yaml"))
    planned = [
        PlannedTrial(point=point, dataset="procedural", trial=trial, category=category, assigned=None, key="")
        for point in make_points(inputs)
        for trial in point.trials
        for category in inputs.categories
    ]
    store = Store(folder.parent / "store")
    images = {
        name: make_rows(folder.parent / "images", name, (72, 96), 7, 8) for name in inputs.categories if inputs.stored
    }
    rows = [trial_row(one, inputs, store, images.get(one.category)) for one in planned]
    trials = pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)
    plan = Plan(tuple(planned), inputs.stages)
    write_results(folder, results_of(loaded, plan, trials, planned[0].point.name, 241.5, lambda _: {}))
    return folder


def make_points(inputs: Inputs) -> list[Point]:
    """The product of the space."""
    products = [dict(zip(inputs.space, values, strict=True)) for values in itertools.product(*inputs.space.values())]
    names = [
        ", ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in one.items())
        or "only <one>"
        for one in products
    ]
    return [
        Point(number, name, settings, tuple(Trial(name, ExperimentConfig(seed=seed)) for seed in inputs.seeds))
        for number, (name, settings) in enumerate(zip(names, products, strict=True))
    ]


def trial_row(one: PlannedTrial, inputs: Inputs, store: Store, images: list[CatalogRow] | None) -> dict[str, Any]:
    """A row of trials.parquet: more synthetic samples are better, cut and pasted ones too."""
    seed = one.trial.config.seed
    broken = one.point.number in inputs.failed and seed == inputs.seeds[-1]
    draw = [one.point.number, seed, len(one.category)]
    return {
        "number": one.point.number,
        "name": one.point.name,
        "settings": json.dumps(one.point.settings),
        "seed": seed,
        "dataset": "procedural",
        "category": one.category,
        "state": "failed" if broken else "done",
        "error": ERROR if broken else "",
        "artifact": "" if broken or images is None else trial_artifact(store, one.trial.config, images, draw),
        "remarks": "" if broken else inputs.remarks,
        **({} if broken else {k: v for k, v in metrics(one, draw).items() if k not in inputs.without}),
    }


def metrics(one: PlannedTrial, draw: list[int]) -> dict[str, float]:
    """The metrics of a trial."""
    settings, rng = one.point.settings, np.random.default_rng(draw)
    count, rate = (settings.get(key) if isinstance(settings.get(key), int | float) else 0 for key in ("count", "rate"))
    assert count is not None
    level = 0.89 + 0.05 * count / (count + 60) + 0.01 * (settings.get("variant") == "cutpaste")
    level += 0.3 * (rate or 0) ** 2 - 0.02 * (one.category == "ceramic")
    found = {name: min(1.0, level - 0.04 * i + 0.006 * rng.standard_normal()) for i, name in enumerate(MEASURED)}
    found |= {f"validation_{name}": value - 0.01 for name, value in found.items()}
    ends = {"image_auroc_low": found["image_auroc"] - 0.03, "image_auroc_high": found["image_auroc"] + 0.03}
    return {**found, **ends, "bank_vectors": int(60_000 * (rate or 0.05)), "milliseconds": 12.5 + count / 10}


def trial_artifact(store: Store, config: ExperimentConfig, images: list[CatalogRow], draw: list[int]) -> str:
    """Scores of a detector that is right more often than not, as a sweep keeps them."""
    rng = np.random.default_rng(draw)
    labels = np.array([row.label for row in images])
    scores = labels + rng.normal(0, 0.6, len(images))
    maps, maker = rng.random((len(images), GRID[0] * GRID[1]), np.float32), MapMaker(GRID, INPUT, "gaussian", 4.0)
    held_out = (replace(images[0], id="of validation", split="validation"),)
    result = TrialResult(
        trial=Trial("", config),
        category=images[0].category,
        predictions=Predictions(tuple(images), scores, maps, maker),
        image=image_metrics(labels, scores, resamples=0, seed=0),
        pixel=None,
        bank_sizes=(100, 0),
        train=(40, 0, 0),
        test=(int((labels == 0).sum()), int(labels.sum())),
        remarks=(),
        seconds=1.5,
        validation=Evaluation(Predictions(held_out, np.array([99.0]), maps[:1], maker), None, None),
    )

    def build(folder: Path) -> dict[str, Any]:
        return {**write_trial(folder, result), "stages": []}

    return store.make(Recipe("trial", 1, {"draw": draw, "first": images[0].id}), build).key
