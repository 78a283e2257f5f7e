"""PaDiM fitted to a catalog: its Gaussians are an artifact of the store."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from exdd_ray.banks.scoring.maps import MapMaker
from exdd_ray.data.catalog import select_rows
from exdd_ray.errors import DataError
from exdd_ray.features.embedder import Embedder, Samples
from exdd_ray.methods.padim.config import PadimConfig
from exdd_ray.methods.padim.gaussians import Gaussians, fit_gaussians, mahalanobis
from exdd_ray.methods.predictions import Predictions
from exdd_ray.progress import Advance
from exdd_ray.store.arrays import read_arrays, write_arrays
from exdd_ray.store.artifact import Recipe, Store

VERSION = 1
_FILE = "gaussians.arrow"
_IMAGES = 8  # scored at a time


@dataclass(frozen=True)
class FittedPadim:
    """A fitted PaDiM, and how images are embedded for it."""

    config: PadimConfig
    embedder: Embedder
    gaussians: Gaussians

    def predict(self, catalog: pa.Table) -> Predictions:
        """Scores and patch maps of a catalog's readable images; the score is the largest value of the anomaly map.

        Raises DataError where none is readable.
        """
        parts = [part for part in self.embedder.samples(catalog) if len(part.at)]
        if not parts:
            raise DataError("nothing to predict: no image of the catalog is readable")
        size, embedding = self.config.features.input_size, parts[0].embedding
        draw = MapMaker(embedding.grid, size, "gaussian", self.config.blur_radius, embedding.covered)
        maps = np.concatenate([self._maps(part) for part in parts])
        blocks = [draw.many(maps[start : start + _IMAGES]) for start in range(0, len(maps), _IMAGES)]
        scores = np.concatenate([block.max(axis=(1, 2)) for block in blocks])
        return Predictions(tuple(row for part in parts for row in part.rows), scores, maps, draw)

    def _maps(self, samples: Samples) -> np.ndarray:
        vectors = [samples.embedding.image(at) for at in samples.at]
        return np.concatenate(
            [
                mahalanobis(np.stack(vectors[start : start + _IMAGES]), self.gaussians)
                for start in range(0, len(vectors), _IMAGES)
            ]
        )


def fit_padim(config: PadimConfig, train: pa.Table, embedder: Embedder) -> FittedPadim:
    """Fit the Gaussians of a catalog's normal images, or take them from the store.

    Raises DataError for fewer than two readable normal images.
    """
    normal = select_rows(train, label=0)
    if normal.num_rows == 0:
        raise DataError("no normal image to train on")
    (samples,) = embedder.samples(normal)

    def build(folder: Path) -> dict[str, Any]:
        with embedder.progress("Gaussians, images", len(samples.at)) as advance:
            found = fit_gaussians(_read(samples, advance), config.regularisation)
        write_arrays(folder / _FILE, {"means": found.means, "whitening": found.whitening})
        return {"images": len(samples.at)}

    recipe = Recipe("padim", VERSION, {"regularisation": config.regularisation}, (samples.key,))
    arrays = read_arrays(embedder.store.make(recipe, build).file(_FILE))
    # copies, as torch takes no arrays that cannot be written to
    return FittedPadim(config, embedder, Gaussians(arrays["means"].copy(), arrays["whitening"].copy()))


def predict_from_files(fitted: FittedPadim, images: pa.Table) -> Predictions:
    """A catalog's scores and patch maps with nothing read from the store: every image is embedded anew."""
    with TemporaryDirectory() as folder:
        return replace(fitted, embedder=Embedder(Store(Path(folder)), fitted.config.features)).predict(images)


def _read(samples: Samples, advance: Advance) -> Iterator[np.ndarray]:
    for at in samples.at:
        yield samples.embedding.image(at)
        advance(1)
