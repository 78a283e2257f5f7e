"""The normal images of a fit: their patches, those that scores are calibrated on, and where a bank's vectors are of."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from exdd_ray.banks.memory_bank import MemoryBank, Points
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.data.catalog import build_catalog, catalog_rows, select_rows
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.methods.patch_bank.config import PatchBankConfig
from exdd_ray.methods.patch_bank.positives import (
    masked_points,
)

NORMAL = "normal"  # batch of the normal images' patches in a bank


def normal_samples(train: pa.Table, embedder: Embedder) -> Samples:
    """The normal images of a training catalog. Raises DataError where none is readable."""
    normal = select_rows(train, label=0)
    if normal.num_rows == 0:
        raise DataError("no normal image to train on")
    (samples,) = embedder.samples(normal)
    if len(samples.at) == 0:
        raise DataError("no normal image to train on is readable")
    return samples


def normal_points(samples: Samples, embedder: Embedder, rotations: Sequence[float] = ()) -> tuple[Points, ...]:
    """All patches of normal images, but for background: what the negative bank is chosen from, or each layer's.

    Args:
        rotations: degrees by which the images are turned, whose patches follow.
    """
    images = [samples, *(_turned(samples, embedder, degrees) for degrees in rotations)]
    of_layers = zip(*(one.parts for one in images), strict=True)
    return tuple(_joined([_points(part, embedder) for part in parts]) for parts in of_layers)


def _turned(samples: Samples, embedder: Embedder, degrees: float) -> Samples:
    catalog = build_catalog(samples.rows)
    embedding = embedder.embed(catalog, embedder.features, degrees=degrees)
    at = np.flatnonzero(embedding.readable)
    return Samples(tuple(catalog_rows(catalog)), embedding, np.arange(catalog.num_rows)).subset(at)


def _joined(points: Sequence[Points]) -> Points:
    """Points of one space, one after another."""
    if len(points) == 1:
        return points[0]
    return Points(
        read=lambda: VectorBlocks([segment for one in points for segment in one.read().segments]),
        count=sum(one.count for one in points),
        inputs=tuple(name for one in points for name in one.inputs),
        space=points[0].space,
        batch=points[0].batch,
    )


def _points(samples: Samples, embedder: Embedder) -> Points:
    if embedder.features.foreground:
        return masked_points([samples], [samples.embedding.foreground(samples.at)], NORMAL)
    return Points(
        read=partial(samples.embedding.vectors, samples.at),
        count=len(samples.at) * samples.embedding.patches,
        inputs=(samples.key,),
        space=samples.embedding.space,
        batch=NORMAL,
        order=embedder.orderer(samples.embedding, samples.at),
    )


def others(samples: Samples) -> np.ndarray:
    """Positions of all readable images beside these: the pool that is searched together."""
    return np.setdiff1d(np.flatnonzero(samples.embedding.readable), samples.at)


def calibration_rows(config: PatchBankConfig, normal: Samples) -> np.ndarray:
    """Positions of the normal images on which scores are calibrated: spread evenly over all."""
    at = normal.at
    if len(at) < 2:
        raise DataError(
            "scoring.fusion=bonus or evidence and positives.purify need at least two normal images to calibrate on"
        )
    count = min(config.scoring.calibration, len(at))
    return at[np.unique(np.linspace(0, len(at) - 1, count).round().astype(np.int64))]


def own_images(bank: MemoryBank, normal: Samples) -> np.ndarray:
    """[M] for each vector of a bank of normal images the position of the image that it came from."""
    return normal.at[bank.points // normal.embedding.patches]
