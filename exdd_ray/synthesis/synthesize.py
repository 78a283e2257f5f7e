"""Synthetic images as artifacts: sample i depends on the seed and i only, so that fewer are a prefix of more."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from exdd_ray.config.synthesis import PerRegionConfig
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.images import read_image
from exdd_ray.errors import DataError
from exdd_ray.progress import Progress
from exdd_ray.store.artifact import Artifact, Recipe, Store, file_digest
from exdd_ray.synthesis.per_region import blend_region
from exdd_ray.synthesis.sources import texture_files

CHUNK = 25
VERSION = 1


def synthesize(config: PerRegionConfig, normal: pa.Table, seed: int, store: Store, progress: Progress) -> pa.Table:
    """Catalog of `config.count` synthetic defects on backgrounds drawn from normal images.

    They are made in chunks of CHUNK samples, each an artifact, so that a larger count makes only what is missing.

    Raises DataError without a normal image.
    """
    backgrounds = catalog_rows(normal)
    if not backgrounds:
        raise DataError("no normal image to paint defects on")
    textures = texture_files(config.textures) if config.textures else ()
    inputs = tuple(file_digest(Path(file)) for file in (*(row.image for row in backgrounds), *textures))
    starts = range(0, config.count, CHUNK)
    rows: list[CatalogRow] = []
    with progress(f"{config.kind} synthesis", config.count) as advance:
        for start in starts:
            artifact = _make_chunk(config, backgrounds, inputs, seed, start, store)
            rows += _chunk_rows(artifact, backgrounds[0], config, start)
            advance(min(CHUNK, config.count - start))
    return build_catalog(rows[: config.count])


def _make_chunk(
    config: PerRegionConfig,
    backgrounds: Sequence[CatalogRow],
    inputs: tuple[str, ...],
    seed: int,
    start: int,
    store: Store,
) -> Artifact:
    how = {**config.model_dump(mode="json", exclude={"count", "textures"}), "seed": seed, "start": start}

    def build(folder: Path) -> None:
        for i in range(start, start + CHUNK):
            rng = np.random.default_rng([seed, i])
            background = backgrounds[int(rng.integers(len(backgrounds)))]
            image, mask = blend_region(read_image(background.image), config, rng)
            Image.fromarray(image).save(folder / f"{i:06d}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{i:06d}_mask.png")

    return store.make(Recipe("synthesis", VERSION, how, inputs), build)


def _chunk_rows(artifact: Artifact, like: CatalogRow, config: PerRegionConfig, start: int) -> list[CatalogRow]:
    return [
        CatalogRow(
            id=f"{config.kind}/{i:06d}",
            dataset=like.dataset,
            category=like.category,
            split="train",
            label=1,
            defect=config.kind,
            image=str(artifact.file(f"{i:06d}.png")),
            mask=str(artifact.file(f"{i:06d}_mask.png")),
            origin=artifact.key,
        )
        for i in range(start, start + CHUNK)
    ]
