"""Search indexes behind one interface: this project's exact search, and FAISS flat, HNSW and IVF.

The approximate ones trade neighbours for speed; how many, `recall` tells for the data at hand.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from exdd_ray.banks.scan import PreparedBank
from exdd_ray.banks.search import prepare_bank, search_prepared
from exdd_ray.device import compute_device
from exdd_ray.errors import DataError
from exdd_ray.extras import require

IndexKind = Literal["exact", "flat", "hnsw", "ivf"]


@dataclass(frozen=True, kw_only=True)
class IndexParams:
    """What the approximate indexes are built and searched with.

    Attributes:
        links: HNSW, neighbours that a vector is linked to.
        build_effort: HNSW, candidates looked at for every vector that is added.
        search_effort: HNSW, candidates looked at for every query.
        cells: IVF, cells that the vectors are divided into; None is the square root of their number, times four.
        probes: IVF, cells that a query looks into.
        seed: IVF, of the clustering.
    """

    links: int = 32
    build_effort: int = 200
    search_effort: int = 64
    cells: int | None = None
    probes: int = 16
    seed: int = 0


class Index(Protocol):
    """Finds neighbours among the vectors that it was built from."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """L2 distances float32 and indices int64 of the k nearest found of queries [Q x D], both [Q x k].

        Raises DataError for another dimension or k larger than the number of vectors.
        """


@dataclass(frozen=True)
class _ExactIndex:
    bank: PreparedBank

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = search_prepared(queries, self.bank, k)
        return found.distances[0], found.indices[0]


@dataclass(frozen=True)
class _FaissIndex:
    index: Any

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if queries.ndim != 2 or queries.shape[1] != self.index.d:
            raise DataError(f"queries have shape {queries.shape}, the bank has {self.index.d} dimensions")
        if not 1 <= k <= self.index.ntotal:
            raise DataError(f"{k} neighbours asked of a bank of {self.index.ntotal}")
        _check_finite("queries", queries)
        squares, indices = self.index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        # An approximate index that finds fewer than k says so by index -1 and the largest number there is.
        distances = np.where(indices < 0, np.inf, np.sqrt(np.maximum(squares, 0)))
        return distances.astype(np.float32), indices.astype(np.int64)


def build_index(kind: IndexKind, vectors: np.ndarray, params: IndexParams | None = None) -> Index:
    """An index of vectors [M x D].

    Args:
        kind: `exact` is this project's search, `flat` FAISS's exact one, `hnsw` a graph, `ivf` an inverted file of raw
            vectors. FAISS uses a GPU for `flat` and `ivf` where its GPU build is installed and sees one.

    Raises:
        DataError: no vectors, NaN or infinite values, more cells than vectors.
    """
    if vectors.ndim != 2 or len(vectors) == 0:
        raise DataError("the bank is empty: nothing to search in")
    _check_finite("the bank", vectors)
    if kind not in get_args(IndexKind):
        raise DataError(f"no index {kind!r}: one of {', '.join(get_args(IndexKind))}")
    if kind == "exact":
        return _ExactIndex(prepare_bank(vectors, device=compute_device()))
    return _FaissIndex(_build_faiss(kind, np.ascontiguousarray(vectors, dtype=np.float32), params or IndexParams()))


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """Share of the true neighbours' indices [Q x k] that were found, in any order."""
    hits = (found[:, :, None] == true[:, None, :]).any(axis=1)
    return float(hits.mean())


def _build_faiss(kind: IndexKind, vectors: np.ndarray, params: IndexParams) -> Any:
    require("faiss", f"search.index={kind}")
    import faiss  # here alone: beside torch a second OpenMP runtime ends the process on macOS

    count, dim = vectors.shape
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, params.links)
        index.hnsw.efConstruction = params.build_effort
        index.hnsw.efSearch = params.search_effort
    elif kind == "ivf":
        index = _ivf(faiss, count, dim, params)
    else:
        index = faiss.IndexFlatL2(dim)
    if kind != "hnsw" and getattr(faiss, "get_num_gpus", lambda: 0)() > 0:
        index = faiss.index_cpu_to_all_gpus(index, ngpu=1)
    index.train(vectors)
    index.add(vectors)
    return index


def _ivf(faiss: Any, count: int, dim: int, params: IndexParams) -> Any:
    cells = min(count, round(4 * count**0.5)) if params.cells is None else params.cells
    if not 1 <= cells <= count:
        raise DataError(f"{cells} cells asked of a bank of {count}")
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells)
    index.cp.seed, index.cp.min_points_per_centroid, index.nprobe = params.seed, 1, min(params.probes, cells)
    return index


def _check_finite(name: str, vectors: np.ndarray) -> None:
    bad = int((~np.isfinite(vectors)).any(axis=1).sum())
    if bad:
        raise DataError(f"{name}: {bad} vectors hold NaN or infinite values")
