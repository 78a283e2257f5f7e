"""Results for the report's tests: made surfaces, a naive detector of local contrast, the real metrics; in a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import CatalogRow
from exdd_ray.data.masks import read_pair
from exdd_ray.data.procedural.defects import add_defect
from exdd_ray.data.procedural.surfaces import make_surface
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.experiment.load import Trial
from exdd_ray.experiment.plan import Plan, PlannedTrial
from exdd_ray.experiment.result import TrialResult
from exdd_ray.experiment.run_plan import Outcome
from exdd_ray.experiment.scores import scored_trials
from exdd_ray.experiment.space import LoadedSweep, Point, run_as_sweep
from exdd_ray.experiment.stored_result import StoredResult
from exdd_ray.experiment.sweep_results import results_of, write_results
from exdd_ray.experiment.tables import predictions_table, trials_table
from exdd_ray.experiment.tested import contents_of
from exdd_ray.experiment.trial_files import write_trial
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.metrics.evaluate import image_metrics, pixel_metrics
from exdd_ray.report.sweep_data import SweepFolder, read_sweep, read_trials
from exdd_ray.store.artifact import Recipe, Store

GRID = (14, 14)
INPUT = (112, 112)
LEAKAGE = "leakage: 4 training defects were taken from the test split (and are not tested)"

Run = tuple[SweepFolder, list[StoredResult]]


@dataclass(frozen=True)
class Detector:
    """Contrast of a patch against its surroundings, with noise that the seed draws."""

    name: str
    system: str
    noise: float
    remarks: tuple[str, ...] = ()


DETECTORS = (
    Detector("single bank", "patchcore", 1.0),
    Detector("dual bank, <real> defects", "exdd", 0.4, (LEAKAGE,)),
)


def make_rows(folder: Path, category: str, size: tuple[int, int], normal: int, defects: int) -> list[CatalogRow]:
    """Writes images and masks of a material."""
    rng = np.random.default_rng([normal, defects, len(category)])
    rows = [_write(folder, category, size, "good", i, rng) for i in range(normal)]
    kinds = ("scratch", "hole", "stain")
    return rows + [_write(folder, category, size, kinds[i % 3], i, rng) for i in range(defects)]


def _write(
    folder: Path, category: str, size: tuple[int, int], kind: str, i: int, rng: np.random.Generator
) -> CatalogRow:
    image, mask, label = make_surface(category, size, rng), None, int(kind != "good")
    stem = folder / category / f"{kind} <{i:03d}>"
    stem.parent.mkdir(parents=True, exist_ok=True)
    if label:
        image, mask = add_defect(image, kind, rng)
        Image.fromarray(mask).save(f"{stem}_mask.png")
    Image.fromarray(image).save(f"{stem}.png")
    return CatalogRow(
        id=f"{category}/{kind} <{i:03d}>",
        dataset="procedural",
        category=category,
        split="test",
        label=label,
        defect=kind,
        image=f"{stem}.png",
        mask=f"{stem}_mask.png" if label else None,
    )


def make_result(detector: Detector, rows: list[CatalogRow], seed: int) -> TrialResult:
    """The detector's predictions of the rows and their metrics."""
    config = {"seed": seed, "detector": {"system": detector.system, "features": {"resize": INPUT}}}
    trial = Trial(detector.name, ExperimentConfig.model_validate(config))
    rng = np.random.default_rng([seed, len(detector.name)])
    pairs = [read_pair(row) for row in rows]
    maps = np.stack([_contrast(image) for image, _ in pairs])
    maps += detector.noise * maps.std() * rng.standard_normal(maps.shape).astype(np.float32)
    draw = MapMaker(GRID, INPUT, "gaussian", 4.0)
    labels = np.array([row.label for row in rows])
    masks = [np.zeros(image.shape[:2], dtype=bool) if mask is None else mask for image, mask in pairs]
    drawn = ((draw(patch_map, mask.shape), mask) for patch_map, mask in zip(maps, masks, strict=True))
    dual = detector.system == "exdd"
    return TrialResult(
        trial=trial,
        category=rows[0].category,
        predictions=Predictions(tuple(rows), maps.max(axis=1), maps, draw),
        image=image_metrics(labels, maps.max(axis=1), resamples=200, seed=seed),
        pixel=pixel_metrics(drawn, EvaluationConfig()) if labels.any() else None,
        bank_sizes=(len(rows) * 70 + seed, 310 * dual),
        train=(40, 4 * dual, 0),
        test=(int((labels == 0).sum()), int(labels.sum())),
        remarks=detector.remarks,
        seconds=1.5,
    )


def _contrast(image: np.ndarray) -> np.ndarray:
    """Mean distance of the pixels from their surroundings, patch by patch: float32 [patches]."""
    grey = image.mean(axis=2)
    away = np.abs(gaussian_filter(grey, 1.0) - gaussian_filter(grey, 12.0))
    patches = Image.fromarray(away.astype(np.float32)).resize(GRID[::-1], Image.Resampling.BOX)
    return np.asarray(patches).reshape(-1).copy()


def make_results(
    folder: Path,
    *,
    categories: tuple[str, ...] = ("ceramic", "wood"),
    seeds: tuple[int, ...] = (0, 1),
    size: tuple[int, int] = (96, 128),
    counts: tuple[int, int] = (8, 9),
    detectors: tuple[Detector, ...] = DETECTORS,
) -> list[TrialResult]:
    """Results of every detector and seed on every category, with (normal, defective) test images of each."""
    rows = {category: make_rows(folder, category, size, *counts) for category in categories}
    return [
        make_result(detector, rows[category], seed)
        for detector in detectors
        for seed in seeds
        for category in categories
    ]


def make_run(folder: Path, **inputs: Any) -> Run:
    """The folder of a run of `make_results`, read again."""
    return read_again(write_run(folder / "results", make_results(folder, **inputs)))


def read_again(folder: Path) -> Run:
    run = read_sweep(folder)
    return run, read_trials(run, run.rows)


def write_run(folder: Path, results: Sequence[TrialResult], name: str = "contrast & <noise>") -> Path:
    """The folder as `exdd run` writes it, with the store beside it."""
    store = Store(folder.parent / "store")
    names = dict.fromkeys(result.trial.name for result in results)
    raw = {"name": name, "store": str(store.root), "variants": {trial: {} for trial in names}}
    loaded = LoadedSweep(run_as_sweep(raw, Path("run.yaml")), raw, Path("run.yaml"), command="run")
    outcomes = [_outcome(list(names).index(result.trial.name), result, store, name) for result in results]
    scored = scored_trials(one.artifact for one in outcomes if one.artifact)
    plan = Plan(tuple(one.planned for one in outcomes), ())
    folder.mkdir(parents=True)
    compared = results_of(
        loaded,
        plan,
        trials_table(outcomes),
        results[0].trial.name,
        1.0,
        lambda key: scored[key],
        predictions_table(outcomes),
    )
    write_results(folder, compared)
    return folder


def _outcome(number: int, result: TrialResult, store: Store, run: str) -> Outcome:
    trial = result.trial
    about = [run, trial.name, trial.config.model_dump_json(), result.category, contents_of(result.predictions.rows)]

    def build(folder: Path) -> dict[str, Any]:
        return {**write_trial(folder, result), "stages": []}

    artifact = store.make(Recipe("trial", 1, {"of": about}), build)
    point, dataset = Point(number, trial.name, {}, ()), trial.config.dataset.name
    return Outcome(PlannedTrial(point, dataset, trial, result.category, None, artifact.key), artifact, "")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("images"))


def path_points(path: str) -> np.ndarray:
    return np.array([point.split(",") for point in re.findall(r"[-\d.e]+,[-\d.e]+", path)], dtype=float)
