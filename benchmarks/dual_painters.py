"""Painters of pairs that have learnt 8 magnetic tiles with one kind of defect, and where they paint."""

from collections.abc import Sequence

import numpy as np
from common import tiles

from exdd_ray.cli.progress import terminal_progress
from exdd_ray.data.catalog import CatalogRow, build_catalog, catalog_rows
from exdd_ray.data.masks import read_pair
from exdd_ray.store.artifact import Artifact, Store
from exdd_ray.synthesizers.chunk import trained_for
from exdd_ray.synthesizers.dualanodiff.boxes import Box, drawn_box
from exdd_ray.synthesizers.dualanodiff.config import DualConfig
from exdd_ray.synthesizers.dualanodiff.paint import PairScene
from exdd_ray.synthesizers.dualanodiff.pairs import resized, window_anywhere
from exdd_ray.synthesizers.fits import Fit
from exdd_ray.synthesizers.plan import plan_chunks

KINDS = ("blowhole", "break")
SHOTS = 8
SAIM = {"saim": "zero", "random": "random", "plain": "off"}  # how its output starts


def drawn_tiles(kind: str, seed: int) -> tuple[list[CatalogRow], list[CatalogRow]]:
    """Tiles of a kind to learn, and 200 normal ones."""
    rows, rng = catalog_rows(tiles()), np.random.default_rng(seed)
    of_kind = [row for row in rows if row.defect == kind]
    normal = [row for row in rows if row.label == 0]
    learnt = [of_kind[at] for at in rng.permutation(len(of_kind))[:SHOTS]]
    return learnt, [normal[at] for at in rng.permutation(len(normal))[:200]]


def trained_painter(saim: str, kind: str, seed: int, steps: int, store: Store) -> tuple[DualConfig, Artifact]:
    """What has learnt 8 tiles of a kind in so many steps, trained where the store lacks it."""
    learnt, normal = drawn_tiles(kind, seed)
    config = DualConfig(kinds=(kind,), count=1, tuning={"saim": SAIM[saim], "steps": steps})
    job = plan_chunks(config, build_catalog(normal), build_catalog(learnt), seed)[0]
    Fit(f"{kind} {saim}", job).train(store, terminal_progress)
    artifact = trained_for(job, store)
    assert artifact is not None
    return config, artifact


def scenes_of(kind: str, seed: int, config: DualConfig, boxes: Sequence[Box], count: int) -> list[PairScene]:
    """Windows of normal tiles to paint in, within such boxes."""
    _, normal = drawn_tiles(kind, seed)
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image, _ = read_pair(normal[number % len(normal)])
        window = window_anywhere((image.shape[0], image.shape[1]), config.window, rng)
        box = drawn_box(boxes, config.size, rng)
        found.append(PairScene(resized(image[window], config.size), box, number))
    return found
