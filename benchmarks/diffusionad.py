"""DiffusionAD: one denoising step against 50-step DDIM on the same weights, and how well a small model detects.

One model for each material of the procedural dataset that is asked for; test images hold defects of four kinds that no
training sample has. Seconds an image are those of a whole prediction, in batches of eight. Other work on the machine
inflates minutes and seconds: CPU time stands beside them, and the ratio is of CPU time where the CPU computes. With
`--tiles` the magnetic tiles are split at random (4 of 5 normal ones for training) instead, at 256 pixels, bfloat16 and
the published networks where there is a CUDA device, else with the small networks.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import report, tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import select_rows
from exdd_ray.data.config import DatasetConfig, ProceduralConfig
from exdd_ray.data.masks import read_row_mask
from exdd_ray.data.split import split_catalog
from exdd_ray.device import CUDA, compute_device
from exdd_ray.experiment.dataset import by_category, load_catalog
from exdd_ray.features.prepare import prepare_mask
from exdd_ray.methods.diffusionad.config import DiffusionADConfig
from exdd_ray.methods.diffusionad.detector import FittedDiffusionAD, fit_diffusionad
from exdd_ray.methods.predictions import Predictions
from exdd_ray.metrics.evaluate import image_metrics, pixel_metrics
from exdd_ray.progress import silent
from exdd_ray.store.artifact import Store

NORMAL_TRAIN, TILE_STEPS, TINY_STEPS = 100, 3000, 6
SMALL: dict[str, object] = {"scale": "small"}
TINY: dict[str, object] = {
    **SMALL,
    "reconstruction": {"base": 8, "multipliers": (1, 2)},
    "segmentation": {"base": 4, "multipliers": (1, 2)},
    "training": {"batch": 2},
}
DDIM = {"mode": "ddim", "ddim_steps": 50}


@dataclass(frozen=True)
class Measured:
    """Of one mode on the test images of one category; seconds and CPU seconds are of one image."""

    image_auroc: float
    pixel_auroc: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Model:
    """Of one category: minutes and CPU seconds of the training, and what both modes give."""

    minutes: float
    cpu_seconds: float
    one_step: Measured
    ddim: Measured


def materials(store: Store, size: int, tiny: bool) -> dict[str, pa.Table]:
    """The procedural dataset, category by category."""
    counts = {"normal_train": 12, "normal_test": 2, "defects_per_kind": 1} if tiny else {"normal_train": NORMAL_TRAIN}
    made = ProceduralConfig.model_validate({"size": (size, size), **counts})
    return by_category(load_catalog(DatasetConfig(procedural=made), store, silent))


def measure(fitted: FittedDiffusionAD, test: pa.Table) -> Measured:
    """Predict all test images."""
    fitted.predict(test.slice(0, 2))
    started, computed = time.perf_counter(), time.process_time()
    predictions = fitted.predict(test)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - computed
    labels = np.array([row.label for row in predictions.rows])
    image = image_metrics(labels, predictions.scores, resamples=0, seed=0)
    pixel = pixel_metrics(maps_and_masks(predictions, fitted.config))
    count = len(predictions.rows)
    return Measured(image.detection.auroc, pixel.detection.auroc, seconds / count, cpu_seconds / count)


def maps_and_masks(
    predictions: Predictions, config: DiffusionADConfig
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Maps and true masks, at the size of the maps; None of normal images."""
    for row, patch_map in zip(predictions.rows, predictions.patch_maps, strict=True):
        mask = None if row.mask is None else prepare_mask(read_row_mask(row), config.geometry)
        yield predictions.draw(patch_map), mask


def tile_config() -> DiffusionADConfig:
    """The published networks at 256 pixels on a GPU, else small ones."""
    if compute_device() != CUDA:
        return DiffusionADConfig(scale="small")
    training = {"precision": "bfloat16", "batch": 16}
    return DiffusionADConfig.model_validate({"segmentation_rate": 1e-4, "training": training})


def run(category: pa.Table, config: DiffusionADConfig, store: Store) -> Model:
    """Train a model, and predict the test images in both modes."""
    split = split_catalog(category, train_fraction=0.8, defects=None, seed=0)
    normal, test = select_rows(split, split="train", label=0), select_rows(split, split="test")
    started, computed = time.perf_counter(), time.process_time()
    fitted = fit_diffusionad(config, normal, store, 0, progress=terminal_progress)
    minutes, cpu_seconds = (time.perf_counter() - started) / 60, time.process_time() - computed
    ddim = DiffusionADConfig.model_validate({**config.model_dump(), "inference": DDIM})
    return Model(minutes, cpu_seconds, measure(fitted, test), measure(replace(fitted, config=ddim), test))


def mean_of(measured: list[Measured]) -> Measured:
    """Over the categories."""
    return Measured(*np.mean([astuple(one) for one in measured], axis=0).tolist())


def show(models: dict[str, Model], config: DiffusionADConfig) -> None:
    """The table and the JSON line."""
    one, many = (mean_of([getattr(model, mode) for model in models.values()]) for mode in ("one_step", "ddim"))
    rows = [
        (
            name,
            f"{model.minutes:.1f}",
            f"{model.cpu_seconds:.0f}",
            mode,
            f"{of.image_auroc:.3f}",
            f"{of.pixel_auroc:.3f}",
            f"{1000 * of.seconds:.1f}",
            f"{1000 * of.cpu_seconds:.1f}",
        )
        for name, model in models.items()
        for mode, of in (("one step", model.one_step), ("50-step DDIM", model.ddim))
    ]
    device = compute_device()
    wall, cpu = many.seconds / one.seconds, many.cpu_seconds / one.cpu_seconds
    figures = {
        "one_step_ratio": round(wall if device == CUDA else cpu, 2),
        "image_auroc": round(one.image_auroc, 4),
        "pixel_auroc": round(one.pixel_auroc, 4),
        "train_minutes": round(sum(model.minutes for model in models.values()), 2),
        "train_cpu_seconds": round(sum(model.cpu_seconds for model in models.values()), 1),
        "wall_ratio": round(wall, 2),
        "ddim_image_auroc": round(many.image_auroc, 4),
        "ddim_pixel_auroc": round(many.pixel_auroc, 4),
        "seconds_an_image": round(one.seconds, 5),
        "ddim_seconds_an_image": round(many.seconds, 5),
        "steps": config.steps,
        "size": config.size,
        "images": list(models),
        "device": device,
    }
    header = ("images", "minutes", "CPU s", "mode", "image AUROC", "pixel AUROC", "ms an image", "CPU ms")
    report(f"DiffusionAD, {config.size} pixels, {config.steps} steps", header, rows, figures)


def chosen_config(options: argparse.Namespace) -> DiffusionADConfig:
    """As the options say."""
    if options.tiles:
        return with_steps(tile_config(), options.steps or TILE_STEPS)
    config = DiffusionADConfig.model_validate(TINY if options.tiny else SMALL)
    return with_steps(config, options.steps or (TINY_STEPS if options.tiny else config.steps))


def with_steps(config: DiffusionADConfig, steps: int | None) -> DiffusionADConfig:
    return config.model_copy(update={"steps": steps})


def main() -> int:
    """Train a model for each category, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--materials", nargs="+", default=["ceramic"], help="of the procedural dataset")
    parser.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--tiles", action="store_true", help="magnetic tiles instead of the procedural dataset")
    parser.add_argument("--tiny", action="store_true", help="a few images and steps, to check the script")
    parser.add_argument("--store", type=Path, help="keeps the trained networks: a second run trains nothing")
    options = parser.parse_args()
    config, models = chosen_config(options), {}
    with tempfile.TemporaryDirectory() as name:
        store = Store(options.store or Path(name))
        if options.tiles:
            data = {"magnetic tiles": tiles()}
        else:
            made = materials(store, config.size, options.tiny)
            data = {material: made[material] for material in options.materials}
        for category, table in data.items():
            models[category] = run(table, config, store)
            print(category, models[category], file=sys.stderr)
    show(models, config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
