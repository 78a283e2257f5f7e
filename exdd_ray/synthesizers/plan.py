"""The chunks that a synthesis needs, and the recipes that name them: images are hashed, nothing is painted."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from exdd_ray.config.base import identity, without
from exdd_ray.data.catalog import CatalogRow, catalog_rows
from exdd_ray.device import CPU
from exdd_ray.errors import DataError, told_of
from exdd_ray.store.artifact import Recipe
from exdd_ray.synthesizers.chunk import contents
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.device import device_of, precision_of
from exdd_ray.synthesizers.job import CHUNK, AnyJob, ChunkJob
from exdd_ray.synthesizers.leaves import Leaf, leaves
from exdd_ray.synthesizers.segmentation import segmenters
from exdd_ray.synthesizers.synthesizer import Model, NeededDefects
from exdd_ray.synthesizers.table import run_of, samples_of_prompts, synthesizer_of


def plan_chunks(
    config: SynthesizerConfig, normal: pa.Table, defects: pa.Table, seed: int, masks: pa.Table | None = None
) -> list[AnyJob]:
    """The chunks that are needed at least, of all parts. Arguments and errors are those of `plan_parts`."""
    return [job for _, jobs in plan_parts(config, normal, defects, seed, masks) for job in jobs]


def plan_parts(
    config: SynthesizerConfig, normal: pa.Table, defects: pa.Table, seed: int, masks: pa.Table | None = None
) -> list[tuple[Leaf, list[AnyJob]]]:
    """The chunks that each part needs at least, with their recipes; images are hashed, not decoded.

    A hub's model is pinned to its commit.

    Args:
        normal: backgrounds to draw from.
        defects: training defects; read where the synthesizer needs some.
        masks: defects whose masks alone may be taken; None is the training defects.

    Raises:
        DataError: no normal image, or no defect with a mask where one is needed.
        UserError: a model that cannot be had.
    """
    backgrounds = tuple(catalog_rows(normal))
    if not backgrounds:
        raise DataError("no normal image to paint defects on")
    found = []
    for leaf in leaves(config):
        with told_of(leaf.part):
            found.append((leaf, _chunks_of(leaf, backgrounds, defects, defects if masks is None else masks, seed)))
    return found


def _chunks_of(
    leaf: Leaf, backgrounds: tuple[CatalogRow, ...], defects: pa.Table, masks: pa.Table, seed: int
) -> list[AnyJob]:
    config, synthesizer = leaf.config, synthesizer_of(leaf.config)
    needed = synthesizer.defects(config)
    usable, pinned = _usable(defects, masks, needed), synthesizer.pinned(config)
    model, files = synthesizer.model(pinned), synthesizer.files(config)
    how = _what(pinned, model, seed)
    inputs = contents(backgrounds, usable, needed, (*files, *segmenters(config)))
    if leaf.draw:
        how["draw"] = leaf.draw
    jobs: list[AnyJob] = []
    for prompt, count in samples_of_prompts(config).items():
        if count:
            recipe = Recipe("synthesis", synthesizer.version, {**how, "prompt": prompt, "start": 0}, inputs)
            first = ChunkJob(pinned, prompt, 0, seed, backgrounds, usable, recipe, files, model, draw=leaf.draw)
            first = _trained_first(first)
            jobs += [first.beginning_at(start) for start in range(0, count, CHUNK)]
    return jobs


def _trained_first(job: AnyJob) -> AnyJob:
    """The chunk with what is trained before it, which its key then names, too."""
    training = synthesizer_of(job.config).training
    if training is None or (trains := training.recipe(job)) is None:
        return job
    recipe = replace(job.recipe, config={**job.recipe.config, "training": trains.key})
    return replace(job, recipe=recipe, training=trains)


def _usable(defects: pa.Table, masks: pa.Table, needed: NeededDefects | None) -> tuple[CatalogRow, ...]:
    if needed is None:
        return ()
    usable = tuple(
        row for row in catalog_rows(defects if needed.pixels else masks) if row.mask is not None or not needed.masks
    )
    if not usable:
        what = "a training defect that has a mask" if needed.masks else "a training defect"
        raise DataError(f"{needed.asked_by} needs {what}; there is none")
    return usable


def _what(config: SynthesizerConfig, model: Model | None, seed: int) -> dict[str, Any]:
    """What of the config the pixels of a sample depend on."""
    how = {"seed": seed, **without(identity(config), "count", "prompts", "kinds", "filters")}
    if model is not None:
        how["model"] = model.digest
    if (run := run_of(config)) is not None:
        how["precision"] = precision_of(run)
        if (device := device_of(run)) != CPU:
            how["device"] = device
    return how
