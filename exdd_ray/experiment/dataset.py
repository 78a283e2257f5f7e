"""The images of an experiment: a dataset on disk or a made one, category by category, split into train and test."""

import difflib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exdd_ray.data.catalog import build_catalog, with_reading
from exdd_ray.data.config import DatasetConfig, ProceduralConfig
from exdd_ray.data.datasets import DATASETS, default_root, find_dataset, load_dataset
from exdd_ray.data.datasets.layout import scan_mvtec_like
from exdd_ray.data.procedural.dataset import ProceduralSpec, write_procedural_dataset
from exdd_ray.data.split import split_catalog, tested_copies
from exdd_ray.data.weak_labels import apply_weak_labels
from exdd_ray.errors import ConfigError, DataError
from exdd_ray.experiment.config import ExperimentConfig
from exdd_ray.progress import Progress
from exdd_ray.store.artifact import Recipe, Store
from exdd_ray.store.contents import telling_apart

PROCEDURAL = "procedural"
VERSION = 1


def load_catalog(config: DatasetConfig, store: Store, progress: Progress) -> pa.Table:
    """All images of the configured dataset, unsplit where it publishes no split.

    Raises DataError for an unknown dataset or a folder that is not one.
    """
    if config.name == PROCEDURAL:
        return _procedural(config, store, progress)
    near = difflib.get_close_matches(config.name, [*DATASETS, PROCEDURAL], n=1)
    if config.name not in DATASETS and near == [PROCEDURAL]:
        raise DataError(f"no dataset {config.name!r}; did you mean {PROCEDURAL!r}?")
    spec = find_dataset(config.name)
    root = (config.root or default_root(config.name)).expanduser()
    if not root.exists():
        elsewhere = f" (it is to be had from {spec.homepage})" if spec.homepage else ""
        get = f", or get it with `exdd data get {config.name}`" if spec.sources else elsewhere
        raise DataError(f"{root}: no such folder: set dataset.root to the folder of the images{get}")
    catalog = load_dataset(config.name, root, config.category)
    catalog = with_reading(catalog, config.mask_threshold, config.bit_depth)
    return catalog if config.weak_labels is None else apply_weak_labels(catalog, config.weak_labels)


def by_category(catalog: pa.Table) -> dict[str, pa.Table]:
    """The catalog's categories, each a catalog of its own."""
    names = sorted(pc.unique(catalog["category"]).to_pylist())
    return {name: catalog.filter(pc.equal(catalog["category"], name)) for name in names}


def split_universe(config: ExperimentConfig, universe: pa.Table) -> pa.Table:
    """One category's images, each in `train`, `validation` or `test` as an experiment wants them.

    Where it drops duplicates, the files are hashed. Raises DataError as split_catalog.
    """
    catalog = _split(config, universe)
    return catalog.filter(pa.array(~copies(catalog))) if config.dataset.duplicates == "drop" else catalog


def copies(catalog: pa.Table) -> np.ndarray:
    """[N] whether a row of a split catalog is not tested, but its bytes are."""
    return tested_copies(catalog, telling_apart(catalog["image"].to_pylist()))


def copy_remarks(config: ExperimentConfig, universe: pa.Table, trained: pa.Table, tested: pa.Table) -> tuple[str, ...]:
    """What a reader must know of images that are trained on and tested, or of those left out for that reason.

    Args:
        trained: images that a trial trains on or holds out.
        tested: those that it tests.
    """
    if config.dataset.duplicates == "drop":
        left_out = int(copies(_split(config, universe)).sum())
        return (f"{left_out} training images left out whose bytes are tested too (dataset.duplicates=drop)",) * (
            left_out > 0
        )
    count = int(copies(pa.concat_tables([trained, tested])).sum())
    return (
        f"leakage: {count} training images are byte for byte test images too (dataset.duplicates=drop leaves them out)",
    ) * (count > 0)


def _split(config: ExperimentConfig, universe: pa.Table) -> pa.Table:
    split = config.dataset.split
    return split_catalog(
        universe,
        train_fraction=split.train_fraction,
        defects=split.defects,
        seed=config.seed,
        validation_fraction=split.validation_fraction,
        validation_defects=split.validation_defects,
        draw=split.draw,
    )


def _procedural(config: DatasetConfig, store: Store, progress: Progress) -> pa.Table:
    made = config.procedural
    recipe = Recipe("procedural", VERSION, made.model_dump(mode="json"))
    spec = _spec(made)

    def build(folder: Path) -> None:
        with progress("making procedural surfaces", 1) as advance:
            write_procedural_dataset(folder / "images", spec)
            advance(1)

    root = store.make(recipe, build).file("images")
    materials = sorted(spec.materials)
    if config.category is not None and config.category not in materials:
        raise ConfigError(f"the procedural dataset has no material {config.category!r}: {', '.join(materials)}")
    chosen = [config.category] if config.category else materials
    return build_catalog(
        row
        for material in chosen
        for row in scan_mvtec_like(root, root / material, dataset=PROCEDURAL, category=material)
    )


def _spec(made: ProceduralConfig) -> ProceduralSpec:
    spec = ProceduralSpec(
        size=made.size,
        normal_train=made.normal_train,
        normal_test=made.normal_test,
        per_kind=made.defects_per_kind,
        seed=made.seed,
    )
    if made.materials is not None:
        spec = replace(spec, materials=made.materials)
    return spec if made.kinds is None else replace(spec, kinds=made.kinds)
