"""Where the vectors of a catalog's rows are: embeddings of whole catalogs, made once, and rows within them.

An image is known by its file and by what is in it, never by its id, which another catalog may have too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from exdd_ray.banks.coreset import CoresetOrder
from exdd_ray.banks.coreset import Progress as Rounds
from exdd_ray.banks.search import Neighbours
from exdd_ray.banks.vectors import VectorBlocks
from exdd_ray.config.base import Size
from exdd_ray.data.catalog import REAL, CatalogRow, catalog_rows
from exdd_ray.features.backbone import weights_digest
from exdd_ray.features.config import FeaturesConfig
from exdd_ray.features.embed import Embedding, embed
from exdd_ray.features.slices import SliceRunner, image_names
from exdd_ray.progress import Advance, Progress, silent
from exdd_ray.store.artifact import Store
from exdd_ray.store.hashes import digest

# The greedy order of all vectors of the images at some positions of an embedding: so many picks, from a first one, of
# the vectors as they are, or as a matrix projects them.
ImageOrderer = Callable[[Embedding, np.ndarray, int, int, Rounds, np.ndarray | None], CoresetOrder]
# `search` with k = 1 in the store's bank of a key, for queries of a feature space; tells how many are answered. The
# last two are `sizes` and `exclude` of `search`.
Exclude = tuple[np.ndarray, np.ndarray]
Searcher = Callable[[Store, str, str, VectorBlocks, Advance, Sequence[int] | None, Exclude | None], Neighbours]


@dataclass(frozen=True)
class Samples:
    """Readable rows of a catalog and where their vectors are.

    Attributes:
        rows: the catalog's rows, n.
        embedding: of the catalog that they belong to.
        at: [n] their positions in it.
    """

    rows: tuple[CatalogRow, ...]
    embedding: Embedding
    at: np.ndarray

    @property
    def key(self) -> str:
        """Names these rows' vectors in recipes."""
        return digest([self.embedding.key, self.at.tolist()])

    @property
    def parts(self) -> "tuple[Samples, ...]":
        """The rows with each layer's vectors, where layers are kept apart; else these."""
        return tuple(replace(self, embedding=one) for one in self.embedding.parts)

    def subset(self, keep: np.ndarray) -> "Samples":
        """The rows at positions `keep`."""
        return Samples(tuple(self.rows[i] for i in keep), self.embedding, self.at[keep])


@dataclass
class Embedder:
    """Embeds catalogs, whole: any selection of the `universe` is served from one embedding of all of it.

    Images that the universe does not hold, or no longer as they were, are embedded for themselves.

    Attributes:
        store: where embeddings are kept.
        features: how images become vectors.
        universe: the real images of the dataset; None embeds each catalog given for itself.
        run: computes slices; None takes this process's threads.
        order: makes the greedy orders of whole images' vectors; None is this process.
        search: searches banks exactly; None is this process.
        device: where slices are computed; None is this process's device.
        covers: how much of each patch masks cover [P], by the mask's contents, its row and the grid: masks that were
            read before.
    """

    store: Store
    features: FeaturesConfig
    universe: pa.Table | None = None
    run: SliceRunner | None = None
    progress: Progress = silent
    order: ImageOrderer | None = None
    search: Searcher | None = None
    device: str | None = None
    covers: dict[tuple[str, CatalogRow, Size], np.ndarray] = field(default_factory=dict, repr=False)
    _known: dict[str, Embedding] = field(default_factory=dict)

    @cached_property
    def _universe_rows(self) -> list[CatalogRow]:
        return [] if self.universe is None else catalog_rows(self.universe)

    def orderer(
        self, embedding: Embedding, at: np.ndarray
    ) -> Callable[[int, int, Rounds, np.ndarray | None], CoresetOrder] | None:
        """What orders the vectors of the images at positions `at`; None is this process."""
        return None if self.order is None else partial(self.order, embedding, at)

    def samples(self, catalog: pa.Table) -> list[Samples]:
        """The readable rows of a catalog with their vectors: one entry an origin (real images, or made ones)."""
        rows = catalog_rows(catalog)
        origins = list(dict.fromkeys(row.origin for row in rows))
        return [self._of_origin(origin, [row for row in rows if row.origin == origin], catalog) for origin in origins]

    def _of_origin(self, origin: str, rows: list[CatalogRow], catalog: pa.Table) -> Samples:
        own, names = catalog.filter(pa.compute.equal(catalog["origin"], origin)), image_names(rows)
        embedding = self.embedding(own if self.universe is None or origin != REAL else self.universe)
        if not embedding.positions.keys() >= set(names):
            embedding = self.embedding(own)
        at = [embedding.positions[name] for name in names]
        readable = [(row, position) for row, position in zip(rows, at, strict=True) if embedding.readable[position]]
        return Samples(
            tuple(row for row, _ in readable),
            embedding,
            np.array([position for _, position in readable], dtype=np.int64),
        )

    def embed(self, catalog: pa.Table, features: FeaturesConfig, *, degrees: float = 0) -> Embedding:
        """A catalog embedded where this embeds, with features of another size or so, or its images turned."""
        return embed(
            catalog,
            features,
            self.store,
            degrees=degrees,
            run=self.run,
            device=self.device,
            progress=self.progress,
        )

    def embedding(self, catalog: pa.Table) -> Embedding:
        """The embedding of a whole catalog, row by row; made again where a file has changed since."""
        rows = self._universe_rows if catalog is self.universe else catalog_rows(catalog)
        key = digest([image_names(rows), weights_digest(self.features)])
        if key not in self._known:
            self._known[key] = self.embed(catalog, self.features)
        return self._known[key]
