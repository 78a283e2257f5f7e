"""What one run has opened: the store, its backend, and what its trials have read."""

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from exdd_ray.data.catalog import CatalogRow, catalog_digest, catalog_rows
from exdd_ray.data.config import DatasetConfig
from exdd_ray.data.masks import read_pair, read_row_levels, read_row_mask
from exdd_ray.device import compute_device
from exdd_ray.errors import ConfigError, ImageError
from exdd_ray.experiment.backend import LOCAL, Backend
from exdd_ray.experiment.dataset import by_category, load_catalog
from exdd_ray.experiment.inspect import file_notes, value_notes
from exdd_ray.features.backbone import weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embedder import Embedder
from exdd_ray.features.prepare import full_pixels, prepare_mask
from exdd_ray.features.slices import plan_slices
from exdd_ray.metrics.config import EvaluationConfig
from exdd_ray.progress import Progress, silent
from exdd_ray.store.artifact import Store
from exdd_ray.store.contents import content_digests
from exdd_ray.store.hashes import digest
from exdd_ray.training.config import TrainConfig

_KEPT_MASKS = 4096
_READERS = 8


@dataclass
class Session:
    """What the trials of a run share.

    Attributes:
        backend: where its work is done.
        token: of this run; names results that no other run would get.
    """

    store: Store
    progress: Progress = silent
    backend: Backend = LOCAL
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    _embedders: dict[tuple[str, str], Embedder] = field(default_factory=dict)
    _masks: dict[tuple[CatalogRow, str, str, str], np.ndarray] = field(default_factory=dict)
    _faults: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _slices: dict[tuple[str, str, str, float], list[str]] = field(default_factory=dict)
    _contents: dict[str, str] = field(default_factory=dict)
    _categories: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    _unread: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def categories(self, config: DatasetConfig) -> dict[str, pa.Table]:
        """The images of a dataset, category by category. Raises DataError as load_catalog."""
        key = config.model_dump_json(exclude={"split"})
        if key not in self._categories:
            self._categories[key] = by_category(load_catalog(config, self.store, self.progress))
        return self._categories[key]

    def contents(self, universe: pa.Table) -> str:
        """Hash of all images and masks of a dataset's category, and of how they are read."""
        key = _named(universe)
        if key not in self._contents:
            rows = catalog_rows(universe)
            files = content_digests([file for row in rows for file in (row.image, row.mask) if file])
            how = [[row.id, row.split, row.label, row.mask_threshold, row.view, row.mask is None] for row in rows]
            self._contents[key] = digest([how, files])
        return self._contents[key]

    def notes(self, config: DatasetConfig, universe: pa.Table) -> tuple[str, ...]:
        """What a reader must know of the files of a dataset's category; its masks are read once."""
        key = config.model_dump_json(include={"name", "root"})
        if key not in self._unread:
            self._unread[key] = file_notes(config)
        return self._unread[key] + value_notes(universe, self.contents(universe), self.store)

    def slices(self, features: FeaturesConfig, universe: pa.Table, *, degrees: float = 0) -> list[str]:
        """Keys of the embedding slices of a category, turned or not; nothing is computed, images are hashed."""
        key = (features.model_dump_json(), weights_digest(features), _named(universe), degrees)
        if key not in self._slices:
            jobs = plan_slices(universe, features, self.backend.device or compute_device(), degrees=degrees)
            self._slices[key] = [job.recipe.key for job in jobs]
        return self._slices[key]

    def embedder(self, features: FeaturesConfig, universe: pa.Table) -> Embedder:
        """The embedder of a dataset's category; embeds all of it once."""
        key = (features.model_dump_json(), catalog_digest(universe))
        if key not in self._embedders:
            done = self.backend
            self._embedders[key] = Embedder(
                self.store, features, universe, done.embed, self.progress, done.order, done.search, done.device
            )
        return self._embedders[key]

    def mask(self, row: CatalogRow, geometry: FeaturesConfig, evaluation: EvaluationConfig) -> np.ndarray:
        """The true mask bool of a test image that has one, at the resolution of the evaluation."""
        if evaluation.resolution == "native":
            return read_row_mask(row)
        (content,) = content_digests([str(row.mask)])
        key = (row, content, geometry.model_dump_json(), evaluation.mask_resize)
        if key not in self._masks:
            if len(self._masks) == _KEPT_MASKS:
                self._masks.clear()
            if evaluation.mask_resize == "eroded":
                self._masks[key] = full_pixels(read_row_levels(row, geometry.working_size), geometry)
            else:
                self._masks[key] = prepare_mask(read_row_mask(row), geometry)
        return self._masks[key]

    def remote_training(self, train: Callable[[], object], config: TrainConfig) -> Callable[[], None] | None:
        """Has the cluster put what `train` trains into the store; None where this process trains it.

        Raises ConfigError where the config needs a cluster.
        """
        trainer = self.backend.train
        if trainer is not None:
            return lambda: trainer(train, config, self.store)
        if config.workers > 1:
            raise ConfigError(f"training.workers={config.workers} needs a Ray cluster: --ray")
        return None

    def faults(self, universe: pa.Table) -> Mapping[str, str]:
        """Why images of a dataset's category cannot be decoded, by id; decodes all of it once."""
        key = _named(universe)
        if key not in self._faults:
            rows = catalog_rows(universe)
            with self.progress("reading images", len(rows)) as advance, ThreadPoolExecutor(_READERS) as pool:
                found = {}
                for row, reason in zip(rows, pool.map(_fault, rows), strict=True):
                    advance(1)
                    if reason is not None:
                        found[row.id] = reason
            self._faults[key] = found
        return self._faults[key]


def _named(universe: pa.Table) -> str:
    """What is kept of a category is kept under this: its rows as they stand, and what is in their files now."""
    files = [file for name in ("image", "mask") for file in universe[name].to_pylist() if file]
    return digest([catalog_digest(universe), content_digests(files)])


def _fault(row: CatalogRow) -> str | None:
    try:
        read_pair(replace(row, mask=None))
    except ImageError as error:
        return str(error)
    return None
